// Asking the platform again and again, where the answer to the latest question stands, whichever comes last.

import { onScopeDispose } from 'vue'

export const GIVE_UP_MS = 30_000

/**
 * Ask `question` when told to, and `everyMs` after each answer: one after the other, so that slow answers are waited for
 * and not overtaken. To ask anew while one is under way makes that one's answer worthless. An answer that does not come is
 * a failure after `GIVE_UP_MS`. Ends with the component.
 */
export function usePoll<T>(
  everyMs: number,
  question: (signal: AbortSignal) => Promise<T>,
  answered: (found: T) => void,
  failed: (error: unknown) => void,
): () => Promise<void> {
  let turn = 0
  let timer = 0

  async function ask(): Promise<void> {
    const mine = ++turn
    window.clearTimeout(timer)
    const patience = new AbortController()
    const limit = window.setTimeout(() => patience.abort(new DOMException('no answer', 'TimeoutError')), GIVE_UP_MS)
    const take = await question(patience.signal).then(
      (found) => () => answered(found),
      (error: unknown) => () => failed(error),
    )
    window.clearTimeout(limit)
    if (mine !== turn) return
    timer = window.setTimeout(() => void ask(), everyMs)
    take()
  }

  onScopeDispose(() => {
    turn += 1
    window.clearTimeout(timer)
  })
  return ask
}
