import { describe, expect, it } from 'vitest'

import { droppedShare } from './smooth'

describe('droppedShare', () => {
  it('is of what came since the last count', () => {
    expect(droppedShare({ total: 100, dropped: 50 }, { total: 200, dropped: 51 })).toBe(1)
  })

  it('says nothing when nothing came or a picture began anew', () => {
    expect(droppedShare({ total: 100, dropped: 0 }, { total: 100, dropped: 0 })).toBeNull()
    expect(droppedShare({ total: 100, dropped: 9 }, { total: 40, dropped: 0 })).toBeNull()
    expect(droppedShare({ total: 100, dropped: 9 }, { total: 140, dropped: 2 })).toBeNull()
  })
})
