import { describe, expect, it } from 'vitest'

import { KEPT_MS, type Sample, added, apartSeconds, line } from './history'

const at = (ms: number, lag: number, equal = lag === 0): Sample => ({ at: ms, lag, equal })

describe('added', () => {
  it('forgets what is older than five minutes', () => {
    const found = added([at(0, 1), at(1000, 2)], at(KEPT_MS + 500, 3))
    expect(found.map((one) => one.lag)).toEqual([2, 3])
  })
  it('never grows without end', () => {
    let samples: Sample[] = []
    for (let i = 0; i < 1000; i++) samples = added(samples, at(i, i))
    expect(samples.length).toBe(300)
    expect(samples.at(-1)?.lag).toBe(999)
  })
})

describe('line', () => {
  it('is nothing before there are two looks', () => {
    expect(line([], 100, 20)).toBe('')
    expect(line([at(0, 5)], 100, 20)).toBe('')
  })
  it('ends at the right edge and rises with the lag', () => {
    expect(line([at(0, 0), at(30_000, 10)], 100, 20)).toBe('M50,20H100V0')
    expect(line([at(0, 0), at(KEPT_MS, 10)], 100, 20)).toBe('M0,20H100V0')
  })
  it('does not make one change look like a disaster', () => {
    expect(line([at(0, 0), at(60_000, 1)], 100, 20)).toBe('M0,20H100V15')
  })
})

describe('apartSeconds', () => {
  it('counts from the last time both were equal', () => {
    expect(apartSeconds([at(0, 0), at(1000, 2), at(9000, 5)])).toBe(9)
  })
  it('is zero while equal and unknown when equality was never seen', () => {
    expect(apartSeconds([at(0, 3), at(1000, 0)])).toBe(0)
    expect(apartSeconds([at(0, 3)])).toBeNull()
    expect(apartSeconds([])).toBeNull()
  })
})
