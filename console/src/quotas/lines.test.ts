import { describe, expect, it } from 'vitest'

import { fault, fullness, told, type Line } from './lines'

const calls = (quotaClass: string, limit: number | undefined = 5): Line => ({ measure: 'calls', quotaClass, period: 'day', limit })

describe('lines of quotas', () => {
  it('count rows by day over all operations, whatever the line said before', () => {
    expect(told({ ...calls('query'), measure: 'rows', period: 'month' })).toEqual({ measure: 'rows', quotaClass: 'all', period: 'day', limit: 5 })
  })

  it('are at fault when two count the same or one has no number', () => {
    expect(fault([calls('query'), calls('bulk'), { ...calls('query'), period: 'month' }])).toBe('')
    expect(fault([calls('query'), calls('query', 9)])).toBe('twice')
    expect(fault([{ ...calls('query'), measure: 'rows' }, { ...calls('bulk'), measure: 'rows' }])).toBe('twice')
    expect(fault([{ ...calls('query'), limit: undefined }])).toBe('number')
  })

  it('are full at their limit, and at once when it is nothing', () => {
    expect([fullness({ used: 999, limit: 1000 }), fullness({ used: 7, limit: 5 }), fullness({ used: 0, limit: 0 })]).toEqual([99, 100, 100])
  })
})
