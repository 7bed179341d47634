import { describe, expect, it } from 'vitest'

import { clock, momentAt, pieces, placeOf, reckoned, startOf, today, wire } from './day'

const DAY = '2026-05-19'

describe('a day of recordings', () => {
  it('begins at midnight in Beijing, wherever the browser is', () => {
    expect(new Date(startOf(DAY)).toISOString()).toBe('2026-05-18T16:00:00.000Z')
    expect(today(Date.parse('2026-05-18T16:00:01Z'))).toBe(DAY)
    expect(clock(startOf(DAY) + 3_661_000)).toBe('01:01:01')
    expect(wire(startOf(DAY))).toBe('2026-05-19T00:00:00+08:00')
  })

  it('shows stretches as shares of the day, cut at midnight', () => {
    const found = pieces(
      [
        { startTime: '2026-05-18T23:00:00+08:00', endTime: '2026-05-19T06:00:00+08:00', type: 'time' },
        { startTime: '2026-05-19T12:00:00+08:00', endTime: '2026-05-19T18:00:00+08:00', type: 'alarm' },
        { startTime: '2026-05-20T00:00:00+08:00', endTime: '2026-05-20T01:00:00+08:00', type: 'time' },
      ],
      DAY,
    )
    expect(found.map(({ left, width }) => [left, width])).toEqual([[0, 25], [50, 25]])
    expect(found[0]).toMatchObject({ from: '00:00:00', to: '06:00:00' })
  })

  it('knows the moment of a place and the place of a moment', () => {
    expect(momentAt(DAY, 0.5)).toBe(startOf(DAY) + 43_199_500)
    expect(momentAt(DAY, 7)).toBeLessThan(startOf(DAY) + 86_400_000)
    expect(placeOf(DAY, startOf(DAY) + 21_600_000)).toBe(25)
    expect(placeOf(DAY, startOf(DAY) - 1)).toBeNull()
  })

  it('reckons where a playback stands', () => {
    expect(reckoned(1000, 2, false, 500)).toBe(2000)
    expect(reckoned(1000, -1, false, 500)).toBe(500)
    expect(reckoned(1000, 4, true, 500)).toBe(1000)
  })
})
