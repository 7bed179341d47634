import { describe, expect, it } from 'vitest'

import { choose, empty, fill, pictured, place, put, read, shown, streamOf, take } from './layout'

const code = (n: number): string => `310101000013200000${String(n).padStart(2, '0')}`
const names = (layout: ReturnType<typeof empty>): (string | null)[] => shown(layout).map((cell) => cell?.deviceId ?? null)

describe('read', () => {
  it('is undone by writing', () => {
    const wall = choose(fill(empty(4), [code(1), code(2)]), 1, 'sub')
    expect(read(JSON.stringify(wall))).toEqual(wall)
  })

  it('takes nothing that is no wall', () => {
    for (const text of [null, '', '{', '[]', '7', '{"size":5,"cells":[{"deviceId":"x"},3,null]}']) {
      expect(read(text)).toEqual(empty())
    }
    expect(read(JSON.stringify({ size: 1, cells: Array(99).fill({ deviceId: code(1), stream: 'no' }) })).cells).toHaveLength(16)
  })
})

describe('put', () => {
  it('hangs a camera once: it changes places with what was there', () => {
    const wall = fill(empty(4), [code(1), code(2)])
    expect(names(put(wall, 0, code(2)))).toEqual([code(2), code(1), null, null])
    expect(names(put(wall, 3, code(1)))).toEqual([null, code(2), null, code(1)])
  })

  it('leaves the wall for what is no camera or no cell', () => {
    const wall = empty(4)
    expect(put(wall, 4, code(1))).toBe(wall)
    expect(put(wall, 0, 'x')).toBe(wall)
  })
})

describe('fill and place', () => {
  it('fills what is seen, each camera once', () => {
    const wall = fill(empty(4), [code(1), code(1), code(2), code(3), code(4), code(5)])
    expect(names(wall)).toEqual([1, 2, 3, 4].map(code))
    expect(wall.cells[4]).toBeNull()
  })

  it('finds the chosen cell when free, the first free one, and then the chosen one', () => {
    const wall = fill(empty(4), [code(1)])
    expect(place(wall, 2)).toBe(2)
    expect(place(wall, 0)).toBe(1)
    expect(place(fill(empty(4), [1, 2, 3, 4].map(code)), 3)).toBe(3)
    expect(place(take(fill(empty(4), [1, 2, 3, 4].map(code)), 2), 0)).toBe(2)
  })
})

describe('streamOf', () => {
  it('takes the sub-stream for small pictures where the camera has one', () => {
    expect(streamOf('auto', 9, '0/1')).toBe(1)
    expect(streamOf('auto', 4, '0/1')).toBe(0)
    expect(streamOf('auto', 9, '0')).toBe(0)
    expect(streamOf('sub', 9, undefined)).toBe(0)
    expect(streamOf('sub', 1, '0/1/2')).toBe(1)
    expect(streamOf('main', 16, '0/1')).toBe(0)
  })
})

describe('pictured', () => {
  it('leaves out loudspeakers and recorders, and puts who is online first', () => {
    const speaker = '31010100001370000001'
    const found = pictured([{ DeviceID: code(1), Status: 'OFF' }, { DeviceID: speaker, Status: 'ON' }, { DeviceID: code(2), Status: 'ON' }])
    expect(found).toEqual([code(2), code(1)])
  })
})
