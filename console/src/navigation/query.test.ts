import { describe, expect, it } from 'vitest'

import { fromQuery, toQuery } from './query'

const NONE = { keyword: '', online: '' }

describe('fromQuery', () => {
  it('takes what is named and leaves the rest as it is without filters', () => {
    expect(fromQuery({ keyword: '广场', device: '1' }, NONE)).toEqual({ keyword: '广场', online: '' })
  })

  it('takes no list for a text, and no text without end', () => {
    expect(fromQuery({ keyword: ['a', 'b'] }, NONE).keyword).toBe('')
    expect(fromQuery({ keyword: 'a'.repeat(500) }, NONE).keyword).toHaveLength(128)
  })
})

describe('toQuery', () => {
  it('keeps what is no filter and leaves out what narrows nothing', () => {
    expect(toQuery({ device: '1', keyword: 'old' }, { keyword: '', online: 'true' }, NONE)).toEqual({
      device: '1',
      online: 'true',
    })
  })

  it('is undone by fromQuery', () => {
    const filters = { keyword: 'rmgc', online: 'false' }
    expect(fromQuery(toQuery({}, filters, NONE), NONE)).toEqual(filters)
  })
})
