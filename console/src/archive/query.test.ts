import { describe, expect, it } from 'vitest'

import { isCivilCode, noFilters, pageable, request } from './query'

describe('request', () => {
  it('asks for devices, without what is not narrowed', () => {
    const { path, parameters } = request({ ...noFilters(), keyword: ' 外滩 ', online: 'true' }, 2, 20)
    expect(path).toBe('/api/v1/archive/devices')
    expect(parameters).toEqual({
      pageNo: 2, pageSize: 20, owner: '', civilCode: '', keyword: '外滩', online: 'true', includeMissing: undefined,
    })
  })
  it('asks for issues when a severity or a rule is wanted', () => {
    const found = request({ ...noFilters(), severity: 'error', owner: '1', keyword: 'x' }, 1, 20)
    expect(found).toEqual({
      path: '/api/v1/archive/issues',
      parameters: { pageNo: 1, pageSize: 20, owner: '1', civilCode: '', severity: 'error', rule: '' },
    })
    expect(request({ ...noFilters(), rule: 'GB-01' }, 1, 20).path).toBe('/api/v1/archive/issues')
  })
})

describe('isCivilCode', () => {
  it('takes whole divisions only', () => {
    expect(['', '31', '3101', '310101', '31010100'].every(isCivilCode)).toBe(true)
    expect(['3', '310', '31010', 'ab', '310101001'].some(isCivilCode)).toBe(false)
  })
})

describe('pageable', () => {
  it('offers no page that the platform would refuse', () => {
    expect(pageable(1_000_000, 30)).toBe(9_990)
    expect(pageable(7, 30)).toBe(7)
    expect(pageable(null, 30)).toBe(0)
  })
})
