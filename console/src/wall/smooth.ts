// How smooth pictures are: the share of frames that came and were not shown.

export interface Frames {
  total: number
  dropped: number
}

/** What the browser counts of these pictures since they began. */
export function counted(videos: Iterable<HTMLVideoElement>): Frames {
  const sum = { total: 0, dropped: 0 }
  for (const video of videos) {
    const quality = video.getVideoPlaybackQuality()
    sum.total += quality.totalVideoFrames
    sum.dropped += quality.droppedVideoFrames
  }
  return sum
}

/** Dropped frames since an earlier count, in percent; null when nothing came, or a picture began anew. */
export function droppedShare(before: Frames, now: Frames): number | null {
  const total = now.total - before.total
  const dropped = now.dropped - before.dropped
  return total <= 0 || dropped < 0 ? null : (dropped / total) * 100
}
