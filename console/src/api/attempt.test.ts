import { describe, expect, it } from 'vitest'

import { useAttempt } from './attempt'

describe('useAttempt', () => {
  it('is busy while it works and tells that it went well', async () => {
    const { isBusy, problem, attempt } = useAttempt()
    let finish = () => {}
    const running = attempt(() => new Promise<void>((done) => (finish = done)))
    expect(isBusy.value).toBe(true)
    finish()
    expect(await running).toBe(true)
    expect([isBusy.value, problem.value]).toEqual([false, null])
  })

  it('keeps what went wrong until the next attempt', async () => {
    const { isBusy, problem, attempt } = useAttempt()
    const trouble = new Error('refused')
    expect(await attempt(() => Promise.reject(trouble))).toBe(false)
    expect([isBusy.value, problem.value]).toEqual([false, trouble])
    const next = attempt(() => Promise.resolve())
    expect(problem.value).toBe(null)
    expect(await next).toBe(true)
  })
})
