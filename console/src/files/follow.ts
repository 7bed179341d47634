import { type Ref, onBeforeUnmount, ref, shallowRef } from 'vue'

import { call } from '../api/client'
import type { FileJob } from '../api/types'
import { isFinal } from './job'

const LOOK_MS = 1000

/** One job, looked at until it ends; a failed look is said and tried again. */
export function useJob(ended: () => void): {
  job: Ref<FileJob | null>
  problem: Ref<unknown>
  follow: (jobId: string) => void
  forget: () => void
} {
  const job = shallowRef<FileJob | null>(null)
  const problem = ref<unknown>(null)
  let wanted: string | null = null
  let timer = 0

  async function look(): Promise<void> {
    const asked = wanted
    if (asked === null) return
    let isOver = false
    try {
      const found = await call<FileJob>('GET', `/api/v1/files/jobs/${encodeURIComponent(asked)}`)
      if (asked !== wanted) return
      isOver = isFinal(found)
      job.value = found
      problem.value = null
      if (isOver) ended()
    } catch (error) {
      if (asked !== wanted) return
      problem.value = error
    }
    if (!isOver) timer = window.setTimeout(() => void look(), LOOK_MS)
  }

  function forget(): void {
    window.clearTimeout(timer)
    wanted = null
    job.value = null
    problem.value = null
  }

  onBeforeUnmount(forget)
  return {
    job,
    problem,
    forget,
    follow(jobId) {
      window.clearTimeout(timer)
      if (wanted !== jobId) job.value = null
      wanted = jobId
      problem.value = null
      void look()
    },
  }
}
