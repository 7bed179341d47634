// Quotas of a key as a form edits them.

import type { QuotaUse } from '../api/types'

export const CLASSES = ['all', 'query', 'bulk', 'video', 'control', 'exchange', 'admin'] as const
export const PERIODS = ['day', 'month'] as const

export interface Line {
  measure: 'calls' | 'rows'
  quotaClass: string
  period: 'day' | 'month'
  limit: number | undefined
}

/** Rows are counted by day over all operations; calls as the line says. */
export function told(line: Line): Line {
  return line.measure === 'rows' ? { ...line, quotaClass: 'all', period: 'day' } : line
}

export function linesOf(quotas: readonly QuotaUse[]): Line[] {
  return quotas.map(({ measure, quotaClass, period, limit }) => ({ measure, quotaClass, period, limit }))
}

/** Whether each line has a number and none counts what another counts already. */
export function fault(lines: readonly Line[]): 'twice' | 'number' | '' {
  const counters = lines.map(told).map((line) => `${line.measure}/${line.quotaClass}/${line.period}`)
  if (new Set(counters).size < counters.length) return 'twice'
  return lines.every((line) => Number.isInteger(line.limit) && (line.limit ?? -1) >= 0) ? '' : 'number'
}

/** How full a quota is, 0 to 100. */
export function fullness(use: Pick<QuotaUse, 'used' | 'limit'>): number {
  return use.limit === 0 ? 100 : Math.min(100, Math.floor((use.used / use.limit) * 100))
}
