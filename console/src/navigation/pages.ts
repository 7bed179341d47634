// The pages of the console, in the order of the menu, and who may use them.

export interface PageEntry {
  path: string
  /** Name in the catalogue of words, under ``nav``. */
  name: 'viewing' | 'wall' | 'trees' | 'archive' | 'map' | 'alarms' | 'files' | 'services' | 'signalling' | 'neighbours' | 'admission' | 'media'
  /** One of these opens the page; none: everybody who is signed in. */
  permissions: readonly string[]
}

export const PAGES: readonly PageEntry[] = [
  { path: '/', name: 'viewing', permissions: ['video:live'] },
  { path: '/wall', name: 'wall', permissions: ['video:live'] },
  { path: '/trees', name: 'trees', permissions: ['archive:read'] },
  { path: '/archive', name: 'archive', permissions: ['archive:read'] },
  { path: '/map', name: 'map', permissions: ['archive:read'] },
  { path: '/alarms', name: 'alarms', permissions: ['alarm:read'] },
  { path: '/files', name: 'files', permissions: ['archive:export', 'archive:write'] },
  { path: '/services', name: 'services', permissions: [] },
  { path: '/signalling', name: 'signalling', permissions: ['signalling:read'] },
  { path: '/neighbours', name: 'neighbours', permissions: ['platform:read'] },
  { path: '/admission', name: 'admission', permissions: ['platform:admin'] },
  { path: '/media', name: 'media', permissions: ['platform:admin'] },
]

/** Whether somebody with these permissions may use a page. */
export function mayUse(page: PageEntry, held: readonly string[]): boolean {
  return page.permissions.length === 0 || page.permissions.some((one) => held.includes(one))
}

/** The pages that somebody with these permissions may use. */
export function offered(held: readonly string[]): PageEntry[] {
  return PAGES.filter((page) => mayUse(page, held))
}

/** The page that an address belongs to. */
export function pageOf(path: string): PageEntry | undefined {
  return PAGES.find((page) => (page.path === '/' ? path === '/' : path === page.path || path.startsWith(`${page.path}/`)))
}
