// The pages of the console, in the order of the menu, and who may use them.

export const GROUPS = ['watch', 'resources', 'links', 'system'] as const
export type Group = (typeof GROUPS)[number]

export interface PageEntry {
  path: string
  group: Group
  /** Name in the catalogue of words, under ``nav``. */
  name: 'viewing' | 'wall' | 'trees' | 'archive' | 'map' | 'alarms' | 'files' | 'services' | 'signalling' | 'neighbours' | 'admission' | 'media' | 'keys' | 'audit'
  /** One of these opens the page; none: everybody who is signed in. */
  permissions: readonly string[]
}

export const PAGES: readonly PageEntry[] = [
  { path: '/', group: 'watch', name: 'viewing', permissions: ['video:live'] },
  { path: '/wall', group: 'watch', name: 'wall', permissions: ['video:live'] },
  { path: '/alarms', group: 'watch', name: 'alarms', permissions: ['alarm:read'] },
  { path: '/trees', group: 'resources', name: 'trees', permissions: ['archive:read'] },
  { path: '/archive', group: 'resources', name: 'archive', permissions: ['archive:read'] },
  { path: '/map', group: 'resources', name: 'map', permissions: ['archive:read'] },
  { path: '/files', group: 'resources', name: 'files', permissions: ['archive:export', 'archive:write'] },
  { path: '/services', group: 'resources', name: 'services', permissions: [] },
  { path: '/neighbours', group: 'links', name: 'neighbours', permissions: ['platform:read'] },
  { path: '/signalling', group: 'links', name: 'signalling', permissions: ['signalling:read'] },
  { path: '/admission', group: 'links', name: 'admission', permissions: ['platform:admin'] },
  { path: '/media', group: 'system', name: 'media', permissions: ['platform:admin'] },
  { path: '/keys', group: 'system', name: 'keys', permissions: ['grant:admin'] },
  { path: '/audit', group: 'system', name: 'audit', permissions: ['audit:read'] },
]

/** Whether somebody with these permissions may use a page. */
export function mayUse(page: PageEntry, held: readonly string[]): boolean {
  return page.permissions.length === 0 || page.permissions.some((one) => held.includes(one))
}

/** The pages that somebody with these permissions may use. */
export function offered(held: readonly string[]): PageEntry[] {
  return PAGES.filter((page) => mayUse(page, held))
}

/** The menu for somebody with these permissions: groups without a page are left out. */
export function menu(held: readonly string[]): { group: Group; pages: PageEntry[] }[] {
  const pages = offered(held)
  return GROUPS.map((group) => ({ group, pages: pages.filter((page) => page.group === group) })).filter((one) => one.pages.length > 0)
}

/** The page that an address belongs to. */
export function pageOf(path: string): PageEntry | undefined {
  return PAGES.find((page) => (page.path === '/' ? path === '/' : path === page.path || path.startsWith(`${page.path}/`)))
}
