import { beforeEach, describe, expect, it, vi } from 'vitest'
import { effectScope, nextTick, reactive } from 'vue'
import type { LocationQuery } from 'vue-router'

import { type Place, SPEEDS, fromAddress, toAddress, toldMoment, usePlace } from './address'

const route = vi.hoisted(() => ({ current: null as unknown as { query: Record<string, string>; matched: { path: string }[] } }))
const router = vi.hoisted(() => ({ push: vi.fn(), replace: vi.fn() }))
vi.mock('vue-router', () => ({ useRoute: () => route.current, useRouter: () => router }))

const AT = Date.parse('2026-11-26T08:05:09+08:00')
const MOMENT = '2026-11-26T08:05:09+08:00'
const DAY: Place = { day: '2026-11-26', at: null, speed: 1 }

describe('fromAddress', () => {
  it('is live where nothing is named, or nothing that is a day or a moment', () => {
    const queries: LocationQuery[] = [
      {}, { recorded: 'x' }, { recorded: '' }, { recorded: '2026-13-01' }, { recorded: ['2026-11-26'] }, { speed: '2' },
    ]
    for (const query of queries) expect(fromAddress(query)).toBeNull()
  })

  it('takes a day of Beijing for a day, not for a moment of it', () => {
    expect(fromAddress({ recorded: '2026-11-26' })).toEqual(DAY)
    expect(fromAddress({ recorded: '2026-11-26', speed: '4' })).toEqual(DAY)
  })

  it('takes a moment of any zone, on its day in Beijing', () => {
    expect(fromAddress({ recorded: MOMENT })).toEqual({ ...DAY, at: AT })
    expect(fromAddress({ recorded: '2026-11-25T23:30:00Z' })).toEqual({ day: '2026-11-26', at: Date.parse('2026-11-25T23:30:00Z'), speed: 1 })
  })

  it('plays as recorded where the speed is none that can be chosen', () => {
    for (const speed of ['3', '0', 'fast', '', '-0.5', '1e9']) expect(fromAddress({ recorded: MOMENT, speed })?.speed).toBe(1)
  })
})

describe('toAddress', () => {
  it('is undone by fromAddress, and keeps what is not its own', () => {
    const places = [null, DAY, ...SPEEDS.map((speed) => ({ ...DAY, at: AT, speed }))]
    for (const place of places) {
      const query = toAddress({ device: '1', recorded: 'old', speed: '8' }, place)
      expect(query.device).toBe('1')
      expect(fromAddress(query)).toEqual(place)
    }
  })

  it('leaves out the speed that needs no word', () => {
    expect(toAddress({}, { ...DAY, at: AT })).toEqual({ recorded: MOMENT })
  })
})

describe('toldMoment', () => {
  it('is of the second for what stands and changes now and then for what runs', () => {
    expect(toldMoment(AT + 999, false)).toBe(AT)
    expect(toldMoment(AT, true)).toBe(toldMoment(AT + 900, true))
    expect(AT - toldMoment(AT, true)).toBeLessThan(5000)
  })
})

describe('usePlace', () => {
  let settled = true

  function world(query: Record<string, string>) {
    settled = true
    route.current = reactive({ query, matched: [{ path: '/' }] })
    return effectScope().run(() => usePlace(() => settled))!
  }

  function arrive(query: Record<string, string>): Promise<void> {
    route.current.query = query
    return nextTick()
  }

  beforeEach(() => {
    router.push.mockReset()
    router.replace.mockReset()
  })

  it('starts at what the address names', () => {
    expect(world({ recorded: MOMENT, speed: '2' }).start.value).toEqual({ ...DAY, at: AT, speed: 2 })
    expect(world({ device: '1' }).start.value).toBeNull()
  })

  it('writes where it stands in place of the address before, and takes that for its own', async () => {
    const { visit, tell } = world({ device: '1', recorded: '2026-11-26' })
    tell({ ...DAY, at: AT, speed: 4 })
    expect(router.replace).toHaveBeenCalledExactlyOnceWith({ query: { device: '1', recorded: MOMENT, speed: '4' } })
    tell({ ...DAY, at: AT, speed: 4 })
    await arrive({ device: '1', recorded: MOMENT, speed: '4' })
    expect([router.replace.mock.calls.length, visit.value]).toEqual([1, 0])
  })

  it('goes where an address of another hand names, such as by "back"', async () => {
    const { start, visit, tell } = world({ device: '1' })
    await arrive({ device: '1', recorded: MOMENT })
    expect([start.value, visit.value]).toEqual([{ ...DAY, at: AT }, 1])
    tell({ ...DAY, at: AT })
    expect(router.replace).not.toHaveBeenCalled()
    await arrive({ device: '1' })
    expect([start.value, visit.value]).toEqual([null, 2])
  })

  it('makes a turn to recordings a step that can be taken back', () => {
    const { start, turn } = world({ device: '1' })
    turn(DAY)
    expect(start.value).toEqual(DAY)
    expect(router.push).toHaveBeenCalledExactlyOnceWith({ query: { device: '1', recorded: '2026-11-26' } })
  })

  it('does not play a camera that is chosen from the moment of the one before', async () => {
    const { start, visit, tell } = world({ device: '1', recorded: MOMENT })
    settled = false // the other camera is chosen, the address still names the first
    tell(DAY)
    expect(router.replace).not.toHaveBeenCalled()
    settled = true
    await arrive({ device: '2', recorded: MOMENT })
    expect(router.replace).toHaveBeenCalledExactlyOnceWith({ query: { device: '2', recorded: '2026-11-26' } })
    expect([start.value, visit.value]).toEqual([{ ...DAY, at: AT }, 0])
  })

  it('leaves the address of another page alone', async () => {
    const { visit } = world({ recorded: MOMENT })
    route.current.matched = [{ path: '/wall' }]
    await arrive({})
    expect([router.replace.mock.calls.length, visit.value]).toEqual([0, 0])
  })
})
