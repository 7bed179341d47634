/** What the archive page is narrowed by. */
export interface Filters {
  keyword: string
  civilCode: string
  owner: string
  online: '' | 'true' | 'false'
  severity: '' | 'error' | 'warning' | 'info'
  rule: string
  includeMissing: boolean
}

/** The deepest row that the platform pages to. */
export const DEEPEST_ROW = 10_000

export function noFilters(): Filters {
  return { keyword: '', civilCode: '', owner: '', online: '', severity: '', rule: '', includeMissing: false }
}

/** Whether a division code is one: 2, 4, 6 or 8 digits, or not given. */
export function isCivilCode(text: string): boolean {
  return text === '' || (/^\d+$/.test(text) && [2, 4, 6, 8].includes(text.length))
}

/**
 * Where to ask and with what: devices, or their issues when a severity or rule is asked for.
 *
 * Issues are listed by owner, division, severity and rule only; the other filters do not reach them.
 */
export function request(
  filters: Filters,
  pageNo: number,
  pageSize: number,
): { path: string; parameters: Record<string, string | number | boolean | undefined> } {
  const common = { pageNo, pageSize, owner: filters.owner, civilCode: filters.civilCode }
  if (filters.severity || filters.rule) {
    return { path: '/api/v1/archive/issues', parameters: { ...common, severity: filters.severity, rule: filters.rule } }
  }
  return {
    path: '/api/v1/archive/devices',
    parameters: {
      ...common,
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
