import { describe, expect, it } from 'vitest'

import { steps } from './timing'

const trace = { authMs: 2, inviteMs: 3, answerMs: 40, firstRtpMs: 60, firstIdrMs: 80 }

describe('steps', () => {
  it('shows nothing but the request before the platform has answered', () => {
    expect(steps(null, null, null).map((step) => step.ms)).toEqual([0, null, null, null, null, null, null])
  })

  it('adds half of the way to what the platform measured', () => {
    const found = steps(trace, 100, 180)
    expect(found.find((step) => step.key === 'authorised')?.ms).toBe(12)
    expect(found.find((step) => step.key === 'firstKeyFrame')?.ms).toBe(90)
    expect(found.at(-1)).toEqual({ key: 'firstPicture', ms: 180 })
  })

  it('never goes back in time when the clocks disagree', () => {
    const found = steps(trace, 50, 90)
    expect(found[1]?.ms).toBe(2)
  })

  it('keeps a step that did not happen as not happened', () => {
    const found = steps({ ...trace, inviteMs: null, answerMs: null }, 100, null)
    expect(found.find((step) => step.key === 'invited')?.ms).toBeNull()
    expect(found.at(-1)?.ms).toBeNull()
  })
})
