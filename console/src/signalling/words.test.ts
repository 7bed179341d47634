import { describe, expect, it } from 'vitest'

import { beijingDay, clockTime, dayBounds, gap } from './words'

describe('signalling words', () => {
  it.each([
    [0, '+0 ms'],
    [0.4, '+0 ms'],
    [12.3, '+12 ms'],
    [1500, '+1.5 s'],
    [61_000, '+1 min'],
    [3_720_000, '+1 h 2 min'],
  ])('reads a gap of %d ms as %s', (ms, words) => {
    expect(gap(ms)).toBe(words)
  })
  it('counts days in Beijing', () => {
    expect(beijingDay(new Date('2026-01-01T16:30:00Z'))).toBe('2026-01-02')
    expect(dayBounds('2026-01-02').startTime).toBe('2026-01-02T00:00:00+08:00')
  })
  it('shows milliseconds', () => {
    expect(clockTime('2026-01-01T00:00:00.007Z')).toBe('08:00:00.007')
    expect(clockTime('never')).toBe('never')
  })
})
