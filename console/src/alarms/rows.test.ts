import { describe, expect, it } from 'vitest'

import { priorityType, window } from './rows'

describe('priorityType', () => {
  it('shows the first priority as the worst and an unknown one as nothing', () => {
    expect([1, 2, 3, 4, null].map(priorityType)).toEqual(['danger', 'warning', 'primary', 'info', 'info'])
  })
})

describe('window', () => {
  it('goes back so many hours, and for ever when none are named', () => {
    const now = new Date('2026-01-02T00:00:00Z')
    expect(window('24', now)).toBe('2026-01-01T00:00:00.000Z')
    expect(['', '0', '-1', 'x'].map((hours) => window(hours, now))).toEqual(['', '', '', ''])
  })
})
