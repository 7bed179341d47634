// What an alarm looks like in the list, and since when the list goes back.

export type TagType = 'danger' | 'warning' | 'primary' | 'info'

/** The colour of a priority: the first is the worst; without one nobody knows. */
export function priorityType(priority: number | null): TagType {
  if (priority === 1) return 'danger'
  if (priority === 2) return 'warning'
  return priority === 3 ? 'primary' : 'info'
}

/** The beginning of the last so many hours, as the platform reads it; empty for all. */
export function window(hours: string, now: Date = new Date()): string {
  const count = Number(hours)
  if (!Number.isFinite(count) || count <= 0) return ''
  return new Date(now.getTime() - count * 3_600_000).toISOString()
}
