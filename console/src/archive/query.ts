import type { DevicePage } from '../api/types'

/** What the archive page is narrowed by, as its address says it. */
export type Filters = {
  keyword: string
  civilCode: string
  owner: string
  /** "", "true" or "false". */
  online: string
  /** "", "error", "warning" or "info". */
  severity: string
  rule: string
  /** "" or "true". */
  includeMissing: string
}

/** The deepest row of a list that the platform pages to by number. */
export const DEEPEST_ROW = 10_000

export function noFilters(): Filters {
  return { keyword: '', civilCode: '', owner: '', online: '', severity: '', rule: '', includeMissing: '' }
}

/** Whether a division code is one: 2, 4, 6 or 8 digits, or not given. */
export function isCivilCode(text: string): boolean {
  return text === '' || (/^\d+$/.test(text) && [2, 4, 6, 8].includes(text.length))
}

/** Where one page begins: issues are paged by number, devices by the cursor of the page before. */
export interface Begin {
  pageNo: number
  cursor: string
}

/**
 * Where to ask and with what: devices, or their issues when a severity or rule is asked for.
 *
 * Issues are listed by owner, division, severity and rule only; the other filters do not reach them.
 */
export function request(
  filters: Filters,
  begin: Begin,
  pageSize: number,
): { path: string; parameters: Record<string, string | number | boolean | undefined> } {
  const common = { pageSize, owner: filters.owner, civilCode: filters.civilCode.trim() }
  if (filters.severity || filters.rule) {
    const { severity, rule } = filters
    return { path: '/api/v1/archive/issues', parameters: { ...common, pageNo: begin.pageNo, severity, rule } }
  }
  return {
    path: '/api/v1/archive/devices',
    parameters: {
      ...common,
      cursor: begin.cursor,
      keyword: filters.keyword.trim(),
      online: filters.online,
      includeMissing: filters.includeMissing || undefined,
    },
  }
}

/** How many rows a pager may offer: no page behind the deepest row. */
export function pageable(total: number | null, pageSize: number): number {
  return Math.min(total ?? 0, Math.floor(DEEPEST_ROW / pageSize) * pageSize)
}

/** The words' arguments while the index is behind; null when what was found is all there is. */
export function behind(answer: Pick<DevicePage, 'indexing'> | null): { n: number; s: number | null } | null {
  const told = answer?.indexing
  if (!told || told.isCurrent) return null
  return { n: told.remaining, s: told.remainingSec === null ? null : Math.ceil(told.remainingSec) }
}
