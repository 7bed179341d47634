// What of a recording stands in the address, so that a reload, "back" and a link show the same:
// `recorded` is the day that is looked at, or the moment that is played; `speed` how fast, unless as it was recorded.
// Without `recorded` the picture is live.

import { type Ref, ref, shallowRef, watch } from 'vue'
import { type LocationQuery, useRoute, useRouter } from 'vue-router'

import { startOf, today, wire } from './day'

export interface Place {
  day: string
  /** The moment that is played, in milliseconds since 1970. */
  at: number | null
  speed: number
}

export const SPEEDS: readonly number[] = [0.125, 0.25, 0.5, 1, 2, 4, 8, -1, -2, -4, -8]
const DAY = /^\d{4}-\d{2}-\d{2}$/
const RUNNING_MS = 5000

/** The place that an address names; null: live, also where it is no place. */
export function fromAddress(query: LocationQuery): Place | null {
  const told = query.recorded
  if (typeof told !== 'string') return null
  const isDay = DAY.test(told)
  const at = isDay ? startOf(told) : Date.parse(told)
  if (Number.isNaN(at)) return null
  const speed = Number(query.speed)
  const isPlayed = !isDay
  return { day: today(at), at: isPlayed ? at : null, speed: isPlayed && SPEEDS.includes(speed) ? speed : 1 }
}

/** The address of a place; other parts of `query` stay. */
export function toAddress(query: LocationQuery, place: Place | null): LocationQuery {
  const { recorded: _, speed: __, ...rest } = query
  return { ...rest, ...words(place) }
}

/** A moment as it is told: while it runs, now and then; what stands, to the second. */
export function toldMoment(at: number, isRunning: boolean): number {
  const step = isRunning ? RUNNING_MS : 1000
  return Math.floor(at / step) * step
}

/**
 * The place on a page, and the address of the page as it follows the place.
 *
 * @param isSettled whether the page shows what the rest of the address names: while it does not, nothing is written, for
 *   the place is that of another camera.
 */
export function usePlace(isSettled: () => boolean): {
  start: Ref<Place | null>
  visit: Ref<number>
  turn: (place: Place | null) => void
  tell: (place: Place) => void
} {
  const route = useRoute()
  const router = useRouter()
  const home = route.matched[0]?.path
  const start = shallowRef(fromAddress(route.query))
  /** One more whenever the address, or who turns, names a place to go to. */
  const visit = ref(0)
  let now = start.value
  let written = keyOf(now)

  function write(): void {
    if (keyOf(now) === written || !isSettled()) return
    written = keyOf(now)
    void router.replace({ query: toAddress(route.query, now) })
  }

  function go(place: Place | null): void {
    start.value = now = place
    written = keyOf(place)
    visit.value += 1
  }

  watch(
    () => route.query,
    (query) => {
      if (route.matched[0]?.path !== home) return
      const named = fromAddress(query)
      if (keyOf(named) === written) write()
      else go(named)
    },
  )
  return {
    start,
    visit,
    /** A step that "back" takes back. */
    turn(place) {
      go(place)
      void router.push({ query: toAddress(route.query, place) })
    },
    tell(place) {
      now = place
      write()
    },
  }
}

function words(place: Place | null): Record<string, string> {
  if (place === null) return {}
  if (place.at === null) return { recorded: place.day }
  return { recorded: wire(place.at), ...(place.speed === 1 ? {} : { speed: String(place.speed) }) }
}

function keyOf(place: Place | null): string {
  return JSON.stringify(words(place))
}
