// How the audit page asks: the span of time, and how deep it may turn.

export const PAGE_SIZE = 50
/** The platform pages no deeper; further back leads a narrower question. */
export const MAX_ROWS = 10_000
export const RANGES = ['hour', 'day', 'week', 'all'] as const
const HOURS: Record<string, number> = { hour: 1, day: 24, week: 168 }

/** The earliest moment of a span that ends now; none for all, and a day for a span that is not known. */
export function since(range: string, now: Date): string | undefined {
  if (range === 'all') return undefined
  return new Date(now.getTime() - (HOURS[range] ?? 24) * 3_600_000).toISOString()
}

/** The number of pages that may be turned to. */
export function lastPage(total: number): number {
  return Math.ceil(Math.min(total, MAX_ROWS) / PAGE_SIZE)
}
