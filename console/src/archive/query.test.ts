import { describe, expect, it } from 'vitest'

import { behind, isCivilCode, noFilters, pageable, request } from './query'

const FIRST = { pageNo: 1, cursor: '' }

describe('request', () => {
  it('asks for devices by cursor, without what is not narrowed', () => {
    const { path, parameters } = request({ ...noFilters(), keyword: ' 广场 ', online: 'true' }, { pageNo: 3, cursor: 'c' }, 20)
    expect(path).toBe('/api/v1/archive/devices')
    expect(parameters).toMatchObject({ cursor: 'c', pageSize: 20, keyword: '广场', online: 'true' })
    expect(parameters.includeMissing).toBeUndefined()
    expect(parameters.pageNo).toBeUndefined()
  })

  it('asks for issues by number when a severity or a rule narrows, with the filters that reach them', () => {
    const filters = { ...noFilters(), keyword: '广场', severity: 'error', rule: 'A1-7', owner: '3', civilCode: '31 ' }
    const { path, parameters } = request(filters, { pageNo: 2, cursor: '' }, 20)
    expect(path).toBe('/api/v1/archive/issues')
    expect(parameters).toEqual({ pageNo: 2, pageSize: 20, severity: 'error', rule: 'A1-7', owner: '3', civilCode: '31' })
    expect(request({ ...noFilters(), rule: 'A1-7' }, FIRST, 20).path).toBe('/api/v1/archive/issues')
  })
})

describe('isCivilCode', () => {
  it('is 2, 4, 6 or 8 digits, or nothing', () => {
    expect(['', '31', '3101', '310101', '31010100'].every(isCivilCode)).toBe(true)
    expect(['3', '310', 'ab', '3101010', '310101001'].some(isCivilCode)).toBe(false)
  })
})

describe('pageable', () => {
  it('offers no page behind the deepest row', () => {
    expect([pageable(45, 20), pageable(1_000_000, 20), pageable(null, 20)]).toEqual([45, 10_000, 0])
  })
})

describe('behind', () => {
  it('says nothing when the index is current or not spoken of', () => {
    expect(behind(null)).toBeNull()
    expect(behind({ indexing: null })).toBeNull()
    expect(behind({ indexing: { isCurrent: true, remaining: 0, remainingSec: 0 } })).toBeNull()
  })

  it('says how much is left and how long that takes, if known', () => {
    expect(behind({ indexing: { isCurrent: false, remaining: 900, remainingSec: 2.4 } })).toEqual({ n: 900, s: 3 })
    expect(behind({ indexing: { isCurrent: false, remaining: 900, remainingSec: null } })).toEqual({ n: 900, s: null })
  })
})
