// A day of recordings as a bar: where its pieces stand, and which moment a place on it is.

export interface Stretch {
  startTime: string
  endTime: string
  type?: string
}

/** A piece of the bar; ``left`` and ``width`` are percent of the day. */
export interface Piece {
  left: number
  width: number
  type: string
  from: string
  to: string
}

export const DAY_MS = 86_400_000
const BEIJING_MS = 8 * 3_600_000

/** Today in Beijing, as a date field holds it. */
export function today(now: number = Date.now()): string {
  return new Date(now + BEIJING_MS).toISOString().slice(0, 10)
}

/** The moment at which a Beijing day begins, in milliseconds since 1970. */
export function startOf(day: string): number {
  return Date.parse(`${day}T00:00:00+08:00`)
}

/** A moment as Beijing time of day: ``08:05:09``. */
export function clock(at: number): string {
  return new Date(at + BEIJING_MS).toISOString().slice(11, 19)
}

/** A moment as the platform reads it, with its zone. */
export function wire(at: number): string {
  return `${new Date(at + BEIJING_MS).toISOString().slice(0, 19)}+08:00`
}

/** The recorded stretches as pieces of the day's bar, cut at midnight. */
export function pieces(stretches: readonly Stretch[], day: string): Piece[] {
  const begin = startOf(day)
  return stretches
    .map((one) => ({ one, from: Math.max(begin, Date.parse(one.startTime)), to: Math.min(begin + DAY_MS, Date.parse(one.endTime)) }))
    .filter(({ from, to }) => to > from)
    .map(({ one, from, to }) => ({
      left: ((from - begin) / DAY_MS) * 100,
      width: ((to - from) / DAY_MS) * 100,
      type: one.type ?? '',
      from: clock(from),
      to: clock(to),
    }))
}

/** The moment a place on the bar stands for; ``share`` is 0 to 1. */
export function momentAt(day: string, share: number): number {
  return startOf(day) + Math.round(Math.min(1, Math.max(0, share)) * (DAY_MS - 1000))
}

/** The place of a moment on the bar, percent; null when it is on another day. */
export function placeOf(day: string, at: number): number | null {
  const share = (at - startOf(day)) / DAY_MS
  return share >= 0 && share <= 1 ? share * 100 : null
}

/** Where a playback stands ``passedMs`` after it was told. */
export function reckoned(position: number, scale: number, isPaused: boolean, passedMs: number): number {
  return isPaused ? position : position + passedMs * scale
}
