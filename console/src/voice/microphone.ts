// The browser's microphone as frames of G.711, and in which of a few ways there is none.

import workletUrl from './microphone.worklet.ts?worker&url'
import type { Spoken } from './microphone.worklet'

export const TROUBLES = ['insecure', 'denied', 'absent', 'busy', 'broken'] as const
export type Trouble = (typeof TROUBLES)[number]

export class NoMicrophone extends Error {
  constructor(readonly trouble: Trouble) {
    super(trouble)
  }
}

const NAMES: Record<string, Trouble> = {
  NotAllowedError: 'denied',
  SecurityError: 'denied',
  NotFoundError: 'absent',
  OverconstrainedError: 'absent',
  NotReadableError: 'busy',
  AbortError: 'busy',
}

/** Which trouble an error of the browser is. */
export function troubleOf(error: unknown): Trouble {
  return NAMES[(error as { name?: string } | null)?.name ?? ''] ?? 'broken'
}

export class Microphone {
  private constructor(
    private readonly stream: MediaStream,
    private readonly context: AudioContext,
  ) {}

  /** Ask for the microphone and listen to it until ``close``. Raises NoMicrophone. */
  static async open(onSpoken: (spoken: Spoken) => void, onLost: () => void): Promise<Microphone> {
    // Browsers give the microphone to https and to this machine only.
    if (!window.isSecureContext || navigator.mediaDevices === undefined) throw new NoMicrophone('insecure')
    let stream: MediaStream
    try {
      const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true }
      stream = await navigator.mediaDevices.getUserMedia({ audio })
    } catch (error) {
      throw new NoMicrophone(troubleOf(error))
    }
    const context = new AudioContext()
    const made = new Microphone(stream, context)
    try {
      await context.audioWorklet.addModule(workletUrl)
      const node = new AudioWorkletNode(context, 'tongshi-microphone', { numberOfOutputs: 0 })
      node.port.onmessage = ({ data }: MessageEvent<Spoken>) => onSpoken(data)
      context.createMediaStreamSource(stream).connect(node)
      await context.resume()
    } catch {
      made.close()
      throw new NoMicrophone('broken')
    }
    for (const track of stream.getTracks()) track.onended = onLost
    return made
  }

  close(): void {
    for (const track of this.stream.getTracks()) {
      track.onended = null
      track.stop()
    }
    void this.context.close().catch(() => undefined)
  }
}
