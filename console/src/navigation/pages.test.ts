import { describe, expect, it } from 'vitest'

import { menu, offered, pageOf } from './pages'

const names = (held: string[]) => offered(held).map((page) => page.name)

describe('offered', () => {
  it('offers what one may use and nothing else', () => {
    expect(names([])).toEqual(['services'])
    expect(names(['archive:read', 'video:live', 'platform:read'])).toEqual([
      'viewing',
      'wall',
      'trees',
      'archive',
      'map',
      'services',
      'neighbours',
    ])
  })

  it('needs one of the permissions of file sharing, not both', () => {
    expect(names(['archive:export'])).toContain('files')
    expect(names(['archive:write'])).toContain('files')
  })
})

describe('menu', () => {
  it('has no group without a page', () => {
    expect(menu([]).map((one) => one.group)).toEqual(['resources'])
    const named = menu(['video:live', 'platform:read']).map((one) => [one.group, one.pages.map((page) => page.name)])
    expect(named).toEqual([
      ['watch', ['viewing', 'wall']],
      ['resources', ['services']],
      ['links', ['neighbours']],
    ])
  })
})

describe('pageOf', () => {
  it('finds the page of an address below it, and none for a stranger', () => {
    expect(pageOf('/trees/platform')?.name).toBe('trees')
    expect(pageOf('/')?.name).toBe('viewing')
    expect(pageOf('/treesome')).toBeUndefined()
  })
})
