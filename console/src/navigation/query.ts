// What a page is narrowed by stands in its address: a link shows the same, and "back" goes back.

import { type Ref, onMounted, reactive, ref, watch } from 'vue'
import { type LocationQuery, useRoute, useRouter } from 'vue-router'

export type Texts = Record<string, string>

const MOST_CHARS = 128

/** The filters that an address names; what it does not name, or names badly, is as in ``none``. */
export function fromQuery<T extends Texts>(query: LocationQuery, none: T): T {
  const found: Texts = { ...none }
  for (const name of Object.keys(none)) {
    const value = query[name]
    if (typeof value === 'string') found[name] = value.slice(0, MOST_CHARS)
  }
  return found as T
}

/** The address of these filters: other parts of ``query`` stay, filters that narrow nothing are left out. */
export function toQuery<T extends Texts>(query: LocationQuery, filters: T, none: T): LocationQuery {
  const kept = Object.entries(query).filter(([name]) => !(name in none))
  const told = Object.entries(filters).filter(([name, value]) => value !== none[name])
  return Object.fromEntries([...kept, ...told])
}

/** Filters that follow the address, and the address them. */
export function useFilters<T extends Texts>(none: T): T {
  const route = useRoute()
  const router = useRouter()
  const home = route.matched[0]?.path
  const filters = reactive(fromQuery(route.query, none)) as T
  let written = JSON.stringify(filters)
  watch(filters, () => {
    const now = JSON.stringify(filters)
    if (now === written) return
    written = now
    void router.replace({ query: toQuery(route.query, filters, none) })
  })
  watch(
    () => route.query,
    (query) => {
      if (route.matched[0]?.path !== home) return
      const told = fromQuery(query, none)
      // An address that we wrote ourselves must not overwrite what is being typed.
      if (JSON.stringify(told) === written) return
      written = JSON.stringify(told)
      Object.assign(filters, told)
    },
  )
  return filters
}

/** What is open on a page, by the address: opening it is a step that "back" takes back. */
export function useOpened(name: string): { opened: Ref<string | null>; open: (id: string) => void; close: () => void } {
  const route = useRoute()
  const router = useRouter()
  const home = route.matched[0]?.path
  const opened = ref<string | null>(null)
  function read(): void {
    const value = route.query[name]
    opened.value = typeof value === 'string' && value !== '' ? value.slice(0, MOST_CHARS) : null
  }
  // After the page stands, so that what is opened sees a change.
  onMounted(read)
  watch(
    () => route.query[name],
    () => {
      if (route.matched[0]?.path === home) read()
    },
  )
  return {
    opened,
    open(id) {
      if (route.query[name] !== id) void router.push({ query: { ...route.query, [name]: id } })
    },
    close() {
      if (!(name in route.query)) return
      const { [name]: _, ...rest } = route.query
      void router.replace({ query: rest })
    },
  }
}
