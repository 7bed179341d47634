import { describe, expect, it } from 'vitest'

import { offered, pageOf } from './pages'

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

describe('pageOf', () => {
  it('finds the page of an address below it, and none for a stranger', () => {
    expect(pageOf('/trees/platform')?.name).toBe('trees')
    expect(pageOf('/')?.name).toBe('viewing')
    expect(pageOf('/treesome')).toBeUndefined()
  })
})
