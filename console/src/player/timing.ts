import type { Trace } from '../api/types'

/** One step on the way to a picture; ``ms`` counts from the click, null while it has not happened. */
export interface Step {
  key: 'requested' | 'authorised' | 'invited' | 'answered' | 'firstPacket' | 'firstKeyFrame' | 'firstPicture'
  ms: number | null
}

/**
 * Steps from the click to the first picture.
 *
 * The platform measures from the arrival of the request, the browser from the click; the difference is the way of the
 * request, which is estimated as half of what the answer took beyond the platform's own work.
 */
export function steps(trace: Trace | null, answerAfterMs: number | null, pictureAfterMs: number | null): Step[] {
  const own = trace === null ? 0 : Math.max(0, ...Object.values(trace).map((value) => value ?? 0))
  const way = answerAfterMs === null ? 0 : Math.max(0, (answerAfterMs - own) / 2)
  const at = (value: number | null | undefined): number | null =>
    value === null || value === undefined ? null : Math.round(value + way)
  return [
    { key: 'requested', ms: 0 },
    { key: 'authorised', ms: at(trace?.authMs) },
    { key: 'invited', ms: at(trace?.inviteMs) },
    { key: 'answered', ms: at(trace?.answerMs) },
    { key: 'firstPacket', ms: at(trace?.firstRtpMs) },
    { key: 'firstKeyFrame', ms: at(trace?.firstIdrMs) },
    { key: 'firstPicture', ms: pictureAfterMs === null ? null : Math.round(pictureAfterMs) },
  ]
}
