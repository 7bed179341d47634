import { type Ref, onMounted, ref } from 'vue'

import { call } from '../api/client'
import type { Neighbour } from '../api/types'
import { session } from '../session'

/** Names of the platforms by code; empty for who may not see platforms: they see codes instead. */
export function useOwners(): Ref<Map<string, string>> {
  const owners = ref(new Map<string, string>())
  onMounted(async () => {
    if (!session.may('platform:read')) return
    try {
      const { list } = await call<{ list: Neighbour[] }>('GET', '/api/v1/platforms')
      owners.value = new Map(list.map((one) => [one.platformId, one.name]))
    } catch {
      // Names are an aid; the page says everything with codes as well.
    }
  })
  return owners
}
