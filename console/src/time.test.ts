import { describe, expect, it } from 'vitest'

import { localTime } from './time'

describe('localTime', () => {
  it('is Beijing time wherever the browser stands', () => {
    expect(localTime('2026-01-01T16:30:05Z')).toBe('2026-01-02 00:30:05')
  })
  it('is a dash when there is none and the text itself when it is no time', () => {
    expect(localTime(null)).toBe('—')
    expect(localTime('soon')).toBe('soon')
  })
})
