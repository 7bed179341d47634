import { describe, expect, it } from 'vitest'

import { MAX_TRIES, delayMs, mayHelp } from './recovery'

describe('delayMs', () => {
  it('waits longer each time, never longer than half a minute', () => {
    const waits = Array.from({ length: MAX_TRIES }, (_, tries) => delayMs(tries + 1) ?? 0)
    expect(waits).toEqual([2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
  })

  it('gives up after the last try', () => {
    expect(delayMs(MAX_TRIES + 1)).toBeNull()
  })
})

describe('mayHelp', () => {
  it('asks a silent device again, and nobody who refused', () => {
    expect([0, 429, 502, 503, 504].map(mayHelp)).toEqual([true, true, true, true, true])
    expect([401, 403, 404, 422].map(mayHelp)).toEqual([false, false, false, false])
  })
})
