// A picture by WebRTC: the offer goes to the WHEP address, the answer comes back, the rest is the browser's.

import type { PlayerEvent } from './player'

/** What the browser says of the picture while it plays. */
export interface WhepFigures {
  /** From the packet's arrival to the screen, averaged over the last second. */
  delayMs: number
  framesDecoded: number
  lost: number
  audioPackets: number
}

/** The platform refused the offer: another way to the picture may do. */
export class WhepRefused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

const STALL_AFTER_MS = 3000
const LOOK_MS = 250
const CONNECT_MS = 8000

/** True when this browser has WebRTC at all. */
export function hasWebrtc(): boolean {
  return typeof RTCPeerConnection !== 'undefined'
}

/** One live picture by WebRTC in one video element. `close` is idempotent and tells the platform. */
export class WhepPlayer {
  private peer: RTCPeerConnection | null = null
  private place: string | null = null
  private watch = 0
  private lastFrames = 0
  private lastMoved = 0
  private hasPicture = false
  private lastDelay = { sum: 0, count: 0 }
  figures: WhepFigures = { delayMs: 0, framesDecoded: 0, lost: 0, audioPackets: 0 }

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly on: (event: PlayerEvent) => void,
  ) {}

  /** Raises WhepRefused when the platform does not answer the offer; nothing is left open then. */
  async open(url: string, audio: string): Promise<void> {
    this.close()
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' })
    this.peer = peer
    const stream = new MediaStream()
    peer.ontrack = (event) => {
      stream.addTrack(event.track)
      // Live pictures are worth more than even ones: the browser is asked to hold nothing back.
      const receiver = event.receiver as RTCRtpReceiver & { jitterBufferTarget?: number }
      if (event.track.kind === 'video') receiver.jitterBufferTarget = 0
    }
    peer.onconnectionstatechange = () => {
      if (this.peer === peer && ['failed', 'closed'].includes(peer.connectionState)) this.on({ kind: 'ended' })
    }
    peer.addTransceiver('video', { direction: 'recvonly' })
    if (audio.startsWith('g711')) peer.addTransceiver('audio', { direction: 'recvonly' })
    try {
      await this.exchange(peer, url)
    } catch (error) {
      if (this.peer === peer) this.close()
      throw error
    }
    if (this.peer !== peer) return
    this.video.srcObject = stream
    void this.video.play().catch(() => undefined)
    this.lastMoved = performance.now()
    this.watch = window.setInterval(() => void this.look(peer), LOOK_MS)
  }

  private async exchange(peer: RTCPeerConnection, url: string): Promise<void> {
    await peer.setLocalDescription(await peer.createOffer())
    // The platform waits for our packets at its one address, so our own candidates need not be told.
    const body = peer.localDescription?.sdp ?? ''
    const response = await fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body })
    const text = await response.text()
    if (response.status !== 201) throw new WhepRefused(response.status, told(text))
    const place = response.headers.get('Location')
    this.place = place === null ? null : new URL(place, url).href
    if (this.peer !== peer) return this.leave()
    await peer.setRemoteDescription({ type: 'answer', sdp: text })
  }

  close(): void {
    window.clearInterval(this.watch)
    const peer = this.peer
    this.peer = null
    if (peer === null) return
    peer.close()
    this.leave()
    this.video.srcObject = null
    this.hasPicture = false
    this.lastFrames = 0
  }

  private leave(): void {
    const place = this.place
    this.place = null
    if (place !== null) void fetch(place, { method: 'DELETE', keepalive: true }).catch(() => undefined)
  }

  private async look(peer: RTCPeerConnection): Promise<void> {
    await this.measure(peer)
    if (this.peer !== peer) return
    const now = performance.now()
    if (this.figures.framesDecoded > this.lastFrames && this.video.readyState >= 2) {
      this.lastFrames = this.figures.framesDecoded
      this.lastMoved = now
      if (this.hasPicture) return this.on({ kind: 'stalled', seconds: 0 })
      this.hasPicture = true
      this.on({ kind: 'picture' })
    } else if (this.hasPicture && now - this.lastMoved > STALL_AFTER_MS) {
      this.on({ kind: 'stalled', seconds: Math.round((now - this.lastMoved) / 1000) })
    } else if (!this.hasPicture && now - this.lastMoved > CONNECT_MS) {
      const reason = peer.connectionState === 'connected' ? 'decode' : 'network'
      this.on({ kind: 'unplayable', reason, detail: `WebRTC ${peer.connectionState}` })
    }
  }

  private async measure(peer: RTCPeerConnection): Promise<void> {
    for (const one of (await peer.getStats()).values()) {
      if (one.type !== 'inbound-rtp') continue
      const report = one as RTCInboundRtpStreamStats
      if (report.kind === 'audio') this.figures.audioPackets = report.packetsReceived ?? 0
      if (report.kind !== 'video') continue
      this.figures.framesDecoded = report.framesDecoded ?? 0
      this.figures.lost = report.packetsLost ?? 0
      const sum = (report.jitterBufferDelay ?? 0) + (report.totalDecodeTime ?? 0)
      const count = report.jitterBufferEmittedCount ?? 0
      if (count > this.lastDelay.count) {
        this.figures.delayMs = Math.round(((sum - this.lastDelay.sum) / (count - this.lastDelay.count)) * 1000)
        this.lastDelay = { sum, count }
      }
    }
  }
}

/** The words of an error's envelope. */
function told(text: string): string {
  try {
    return String((JSON.parse(text) as { msg?: unknown }).msg ?? '')
  } catch {
    return ''
  }
}
