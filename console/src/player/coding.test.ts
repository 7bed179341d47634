import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { effectScope, nextTick, ref } from 'vue'

import { call } from '../api/client'
import { useCodingTrouble } from './coding'

vi.mock('../api/client', () => ({ call: vi.fn() }))

describe('trouble of a coder', () => {
  beforeEach(() => {
    vi.useFakeTimers()
    vi.stubGlobal('window', globalThis)
    vi.mocked(call).mockReset()
  })
  afterEach(() => {
    vi.useRealTimers()
    vi.unstubAllGlobals()
  })

  it('is what its session says, and gone with it', async () => {
    vi.mocked(call).mockResolvedValue({ coding: { trouble: '已跳过 7 帧' } })
    const session = ref<string | null>(null)
    const scope = effectScope()
    const trouble = scope.run(() => useCodingTrouble(() => session.value))!
    await vi.advanceTimersByTimeAsync(10_000)
    expect(call).not.toHaveBeenCalled()
    session.value = 's1'
    await nextTick()
    await vi.advanceTimersByTimeAsync(3_000)
    expect(call).toHaveBeenCalledExactlyOnceWith('GET', '/api/v1/video/sessions/s1')
    expect(trouble.value).toBe('已跳过 7 帧')
    session.value = null
    await nextTick()
    expect(trouble.value).toBe('')
    scope.stop()
  })

  it('is asked again and again until nobody looks any more', async () => {
    vi.mocked(call).mockRejectedValue(new Error('offline'))
    const scope = effectScope()
    const trouble = scope.run(() => useCodingTrouble(() => 's1'))!
    await vi.advanceTimersByTimeAsync(9_100)
    expect(call).toHaveBeenCalledTimes(3)
    expect(trouble.value).toBe('')
    scope.stop()
    await vi.advanceTimersByTimeAsync(9_000)
    expect(call).toHaveBeenCalledTimes(3)
  })
})
