import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { effectScope } from 'vue'

import { GIVE_UP_MS, usePoll } from './poll'

const EVERY_MS = 1000

/** Questions that are answered by hand, in any order. */
function world() {
  const asked: { signal: AbortSignal; answer: (text: string) => void; fail: (error: unknown) => void }[] = []
  const seen: string[] = []
  const scope = effectScope()
  const ask = scope.run(() =>
    usePoll<string>(
      EVERY_MS,
      (signal) =>
        new Promise((answer, fail) => {
          asked.push({ signal, answer, fail })
          signal.addEventListener('abort', () => fail(signal.reason))
        }),
      (text) => seen.push(text),
      (error) => seen.push(`failed: ${(error as Error).name}`),
    ),
  )!
  return { asked, seen, scope, ask }
}

describe('a poll', () => {
  beforeEach(() => {
    vi.useFakeTimers()
    vi.stubGlobal('window', globalThis)
  })
  afterEach(() => {
    vi.useRealTimers()
    vi.unstubAllGlobals()
  })

  it('is not overwritten by a slow answer or failure of an older question', async () => {
    const { asked, seen, ask } = world()
    const all = [ask(), ask(), ask()]
    asked[2]!.answer('newest')
    await vi.advanceTimersByTimeAsync(0)
    asked[0]!.answer('oldest')
    asked[1]!.fail(new Error())
    await Promise.all(all)
    expect(seen).toEqual(['newest'])
  })

  it('asks again only after the answer, so that slow answers are shown too', async () => {
    const { asked, seen, ask } = world()
    void ask()
    await vi.advanceTimersByTimeAsync(5 * EVERY_MS)
    expect(asked).toHaveLength(1)
    asked[0]!.answer('slow')
    await vi.advanceTimersByTimeAsync(EVERY_MS)
    expect([seen, asked.length]).toEqual([['slow'], 2])
    asked[1]!.fail(new Error())
    await vi.advanceTimersByTimeAsync(EVERY_MS)
    expect([seen, asked.length]).toEqual([['slow', 'failed: Error'], 3])
  })

  it('keeps one rhythm when asked by hand between two turns', async () => {
    const { asked, ask } = world()
    void ask()
    asked[0]!.answer('a')
    await vi.advanceTimersByTimeAsync(EVERY_MS / 2)
    void ask()
    asked[1]!.answer('b')
    await vi.advanceTimersByTimeAsync(EVERY_MS - 1)
    expect(asked).toHaveLength(2)
    await vi.advanceTimersByTimeAsync(1)
    expect(asked).toHaveLength(3)
  })

  it('gives up a question that is never answered, and goes on', async () => {
    const { asked, seen, ask } = world()
    void ask()
    await vi.advanceTimersByTimeAsync(GIVE_UP_MS)
    expect([seen, asked[0]!.signal.aborted]).toEqual([['failed: TimeoutError'], true])
    await vi.advanceTimersByTimeAsync(EVERY_MS)
    expect(asked).toHaveLength(2)
  })

  it('ends with who asked', async () => {
    const { asked, seen, scope, ask } = world()
    void ask()
    scope.stop()
    asked[0]!.answer('late')
    await vi.advanceTimersByTimeAsync(10 * EVERY_MS)
    expect([seen, asked.length]).toEqual([[], 1])
  })
})
