// One thing that a page does at a time and that may fail: whether it runs, and what went wrong the last time.

import { ref, type Ref } from 'vue'

export interface Attempt {
  isBusy: Ref<boolean>
  problem: Ref<unknown>
  /** Do it; true when it went well. What it throws is the problem until the next attempt. */
  attempt: (work: () => Promise<unknown>) => Promise<boolean>
}

export function useAttempt(): Attempt {
  const isBusy = ref(false)
  const problem = ref<unknown>(null)

  async function attempt(work: () => Promise<unknown>): Promise<boolean> {
    isBusy.value = true
    problem.value = null
    try {
      await work()
      return true
    } catch (error) {
      problem.value = error
      return false
    } finally {
      isBusy.value = false
    }
  }

  return { isBusy, problem, attempt }
}
