import { describe, expect, it } from 'vitest'

import { counts, pathOf, textOf } from './address'

describe('pathOf', () => {
  it('is undone by textOf', () => {
    const path = ['31', '3101', '310101']
    expect(pathOf(textOf(path))).toEqual(path)
    expect(pathOf('')).toEqual([])
  })

  it('is no deeper than a tree', () => {
    expect(pathOf(Array(99).fill('31').join('.'))).toHaveLength(16)
  })
})

describe('counts', () => {
  it('says online of all, and nothing when not counted', () => {
    expect(counts({ count: 5, online: 2 })).toBe('2/5')
    expect(counts({ count: 0 })).toBe('0/0')
    expect(counts({ count: null })).toBe('')
  })
})
