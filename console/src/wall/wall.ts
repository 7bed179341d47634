// The wall of this browser: its layout, kept in local storage, and what the platform says of its cameras.

import { computed, reactive, ref, watch } from 'vue'

import { call } from '../api/client'
import type { DeviceFull } from '../api/types'
import * as layouts from './layout'

const KEY = 'tongshi.wall'

function remembered(): layouts.Layout {
  try {
    return layouts.read(localStorage.getItem(KEY))
  } catch {
    return layouts.empty()
  }
}

export function useWall() {
  const layout = ref(remembered())
  const chosen = ref(0)
  /** What is known of each camera; null: it does not exist, or not for this person. */
  const devices = reactive(new Map<string, DeviceFull | null>())
  const problem = ref<unknown>(null)
  const cells = computed(() => layouts.shown(layout.value))
  const chosenDevice = computed(() => {
    const deviceId = cells.value[chosen.value]?.deviceId
    return deviceId === undefined ? null : (devices.get(deviceId) ?? null)
  })

  /** Names and streams of cameras that are new on the wall. */
  async function learn(): Promise<void> {
    const asked = cells.value.flatMap((cell) => (cell !== null && !devices.has(cell.deviceId) ? [cell.deviceId] : []))
    if (asked.length === 0) return
    try {
      const found = await call<{ list: DeviceFull[] }>('POST', '/api/v1/archive/devices/batch-get', { deviceIds: asked })
      for (const deviceId of asked) devices.set(deviceId, found.list.find((one) => one.DeviceID === deviceId) ?? null)
      problem.value = null
    } catch (error) {
      problem.value = error
    }
  }

  watch(
    layout,
    (now) => {
      if (chosen.value >= now.size) chosen.value = 0
      try {
        localStorage.setItem(KEY, JSON.stringify(now))
      } catch {
        // Private windows may refuse storage; the wall then lasts for this page.
      }
      void learn()
    },
    { immediate: true },
  )

  return {
    layout,
    cells,
    chosen,
    chosenDevice,
    devices,
    problem,
    learn,
    resize: (size: layouts.Size) => (layout.value = { ...layout.value, size }),
    hang(deviceId: string, index = layouts.place(layout.value, chosen.value)): void {
      layout.value = layouts.put(layout.value, index, deviceId)
      chosen.value = index
    },
    take: (index: number) => (layout.value = layouts.take(layout.value, index)),
    fill(deviceIds: readonly string[]): void {
      layout.value = layouts.fill(layout.value, deviceIds)
      chosen.value = 0
    },
    clear: () => (layout.value = layouts.empty(layout.value.size)),
    stream: (index: number, wish: layouts.StreamWish) => (layout.value = layouts.choose(layout.value, index, wish)),
  }
}
