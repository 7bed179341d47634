import { describe, expect, it } from 'vitest'

import { lastPage, since } from './search'

describe('since', () => {
  const now = new Date('2026-01-31T08:00:00Z')

  it('begins so long ago as the span says, and never for all', () => {
    expect(since('hour', now)).toBe('2026-01-31T07:00:00.000Z')
    expect(since('week', now)).toBe('2026-01-24T08:00:00.000Z')
    expect(since('all', now)).toBeUndefined()
  })

  it('takes a span that an address made up for a day', () => {
    expect(since('century', now)).toBe('2026-01-30T08:00:00.000Z')
  })
})

describe('lastPage', () => {
  it('ends where the platform refuses to page', () => {
    expect([0, 1, 50, 51, 10_000, 2_000_000].map(lastPage)).toEqual([0, 1, 1, 2, 200, 200])
  })
})
