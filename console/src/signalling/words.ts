// Small rules of the signalling pages.

export type TraceState = 'running' | 'done' | 'failed'

/** Tag colour of a session's result. */
export const TRACE_TAGS: Record<TraceState, 'primary' | 'success' | 'danger'> = {
  running: 'primary',
  done: 'success',
  failed: 'danger',
}

export const TRACE_KINDS = [
  'viewing', 'call', 'subscription', 'query', 'control', 'notification', 'registration', 'heartbeat', 'other',
] as const

/** A gap between two messages as people read it. */
export function gap(ms: number): string {
  if (ms < 1) return '+0 ms'
  if (ms < 1000) return `+${Math.round(ms)} ms`
  if (ms < 60_000) return `+${(ms / 1000).toFixed(1)} s`
  const minutes = Math.floor(ms / 60_000)
  return minutes < 60 ? `+${minutes} min` : `+${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** The day of a moment in Beijing time, ``YYYY-MM-DD``. */
export function beijingDay(at: Date): string {
  return new Intl.DateTimeFormat('sv-SE', { timeZone: 'Asia/Shanghai', dateStyle: 'short' }).format(at)
}

/** The bounds of a Beijing day, as the platform takes them. */
export function dayBounds(day: string): { startTime: string; endTime: string } {
  return { startTime: `${day}T00:00:00+08:00`, endTime: `${day}T23:59:59+08:00` }
}

/** Time of day with milliseconds in Beijing time. */
export function clockTime(text: string): string {
  const at = new Date(text)
  if (Number.isNaN(at.getTime())) return text
  const time = new Intl.DateTimeFormat('sv-SE', { timeZone: 'Asia/Shanghai', timeStyle: 'medium' }).format(at)
  return `${time}.${String(at.getUTCMilliseconds()).padStart(3, '0')}`
}
