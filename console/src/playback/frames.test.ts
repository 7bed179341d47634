import { describe, expect, it, vi } from 'vitest'

import { FrameStepper, frameLength, target } from './frames'

describe('target', () => {
  const held = [[0, 4], [6, 8]] as const

  it('steps by a frame inside what the browser holds', () => {
    expect(target(1, 1, 0.08, held)).toBeCloseTo(1.08)
    expect(target(1, -1, 0.08, held)).toBeCloseTo(0.92)
    expect(target(6.02, -1, 0.02, held)).toBeCloseTo(6)
  })

  it('leads nowhere beyond it', () => {
    expect(target(3.95, 1, 0.08, held)).toBeNull()
    expect(target(0, -1, 0.08, held)).toBeNull()
    expect(target(5, 1, 0.08, held)).toBeNull()
  })
})

describe('frameLength', () => {
  it('comes nearer to what it sees and overlooks jumps', () => {
    let length = 0.04
    for (let n = 0; n < 40; n += 1) length = frameLength(length, n * 0.08, (n + 1) * 0.08)
    expect(length).toBeCloseTo(0.08, 3)
    expect(frameLength(0.08, 10, 300)).toBe(0.08)
    expect(frameLength(0.08, 10, 2)).toBe(0.08)
  })
})

describe('FrameStepper', () => {
  function paused(end: number): { currentTime: number; buffered: { length: number; end: () => number } } {
    return { currentTime: 4, buffered: { length: 1, end: () => end } }
  }

  it('shows a picture that has come behind the last one', async () => {
    const video = paused(4.08)
    expect(await new FrameStepper(video as unknown as HTMLVideoElement).follow()).toBe(true)
    expect(video.currentTime).toBeCloseTo(4.06)
  })

  it('says so when none comes', async () => {
    vi.useFakeTimers()
    vi.stubGlobal('window', globalThis)
    const followed = new FrameStepper(paused(4.02) as unknown as HTMLVideoElement).follow()
    await vi.runAllTimersAsync()
    expect(await followed).toBe(false)
    vi.useRealTimers()
    vi.unstubAllGlobals()
  })
})
