import { describe, expect, it } from 'vitest'

import { around, between, boxOf, hasArea, ring, textOf } from './box'

const BOX = { minLon: 121.4, minLat: 31.1, maxLon: 121.6, maxLat: 31.3 }

describe('between', () => {
  it('is the same from whichever corner it was drawn', () => {
    expect(between([121.6, 31.1], [121.4, 31.3])).toEqual(BOX)
  })

  it('stays on the globe', () => {
    expect(between([-200, -100], [200, 100])).toEqual({ minLon: -180, minLat: -90, maxLon: 180, maxLat: 90 })
  })
})

describe('boxOf', () => {
  it('is undone by textOf', () => {
    expect(boxOf(textOf(BOX))).toEqual(BOX)
  })

  it('takes nothing that is no rectangle', () => {
    for (const text of ['', '1,2,3', '1,2,3,x', '1,,3,4', '1,2,1,4', 'NaN,0,1,1']) expect(boxOf(text)).toBeNull()
  })
})

describe('around', () => {
  it('holds every point with a margin, and is nothing without points', () => {
    expect(around([[121.4, 31.1], [121.6, 31.3]], 0.1)).toEqual({ minLon: 121.3, minLat: 31, maxLon: 121.7, maxLat: 31.4 })
    expect(around([])).toBeNull()
  })
})

describe('ring', () => {
  it('is closed, and a line is no area', () => {
    expect(ring(BOX)[0]).toEqual(ring(BOX)[4])
    expect(hasArea({ ...BOX, maxLon: BOX.minLon })).toBe(false)
  })
})
