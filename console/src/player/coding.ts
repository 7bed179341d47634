// What somebody who watches a stream that is coded anew must know of it: that its coder is behind.

import { type Ref, onScopeDispose, ref, watch } from 'vue'

import { call } from '../api/client'
import type { SessionAnswer } from '../api/types'

const LOOK_MS = 3000

/** ``coded`` is the session of such a stream while it plays, else null; the words are '' while all is well. */
export function useCodingTrouble(coded: () => string | null): Ref<string> {
  const trouble = ref('')
  let timer = 0

  async function look(sessionId: string): Promise<void> {
    const view = await call<SessionAnswer>('GET', `/api/v1/video/sessions/${sessionId}`).catch(() => null)
    if (coded() !== sessionId) return
    trouble.value = view?.coding?.trouble ?? ''
    follow(sessionId)
  }

  /** One look after the other, never two at once. */
  function follow(sessionId: string): void {
    timer = window.setTimeout(() => void look(sessionId), LOOK_MS)
  }

  watch(
    coded,
    (sessionId) => {
      window.clearTimeout(timer)
      trouble.value = ''
      if (sessionId !== null) follow(sessionId)
    },
    { immediate: true },
  )
  onScopeDispose(() => window.clearTimeout(timer))
  return trouble
}
