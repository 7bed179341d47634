// A recording that is being watched: its day, asked for, played, steered, given back, and why there is none.

import { type Ref, computed, onBeforeUnmount, ref, shallowRef, watch } from 'vue'
import { useI18n } from 'vue-i18n'

import { ApiError, call } from '../api/client'
import type { PlaybackAnswer, PlaybackState, RecordingsAnswer } from '../api/types'
import { useCodingTrouble } from '../player/coding'
import { LivePlayer, canPlay, type PlayerEvent } from '../player/player'
import { DAY_MS, pieces, placeOf, reckoned, startOf, today, wire } from './day'
import { type Place, toldMoment } from './address'
import { FrameStepper } from './frames'

export type PlaybackStage = 'idle' | 'opening' | 'playing' | 'paused' | 'failed' | 'ended'

export interface Failure {
  message: string
  code: number
  requestId: string
  supported: number[]
}

const TICK_MS = 250

/** ``start`` is the day to look at, and perhaps the moment to play from as soon as there is a device. */
export function usePlayback(video: Ref<HTMLVideoElement | null>, deviceId: () => string | undefined, start: Place | null = null) {
  const { t } = useI18n()
  const day = ref(start?.day ?? today())
  const found = shallowRef<RecordingsAnswer | null>(null)
  const searching = ref(false)
  const searchProblem = ref<Failure | null>(null)
  const state = ref<PlaybackStage>('idle')
  const failure = ref<Failure | null>(null)
  const notice = ref('')
  const session = shallowRef<PlaybackAnswer | null>(null)
  const speed = ref(1)
  /** Speeds the device said it has, once it refused another; empty: not known. */
  const speeds = ref<number[]>([])
  const position = ref<number | null>(null)
  /** Whether it is heard: browsers have no G.711, so that sound is coded anew for who wants it. */
  const hears = ref(false)
  let told = { position: 0, scale: 1, isPaused: false, at: 0 }
  let player: LivePlayer | null = null
  let stepper: FrameStepper | null = null
  let turn = 0
  let search = 0
  let ticking = 0
  let isFetching = false
  /** What is to be played as soon as there is a device, and what was asked for since. */
  const pending = ref(start?.at ?? null)
  const asked = ref<number | null>(null)
  const wantedSpeed = ref(start?.speed ?? 1)

  const bar = computed(() => pieces(found.value?.segments ?? [], day.value))
  const hours = computed(() => Math.round((found.value?.totalSec ?? 0) / 360) / 10)
  const marker = computed(() => (position.value === null ? null : placeOf(day.value, position.value)))
  const codedFrom = computed(() => {
    const { codec, transcodedFrom: from } = session.value ?? {}
    return from && codec && from.video !== codec.video ? t('live.transcoded', { from: from.video.toUpperCase() }) : ''
  })
  const codingTrouble = useCodingTrouble(() =>
    state.value === 'playing' && session.value?.transcodedFrom ? session.value.sessionId : null,
  )
  const isRunning = computed(() => state.value === 'playing' || state.value === 'paused')
  /** Where to begin anew to see the same; what failed is tried again, what was stopped or is over is not. */
  const place = computed<Place>(() => {
    const isOver = state.value === 'idle' || state.value === 'ended'
    const toCome = pending.value ?? (isOver ? null : asked.value)
    if (!isRunning.value || position.value === null) return { day: day.value, at: toCome, speed: toCome === null ? 1 : wantedSpeed.value }
    return { day: day.value, at: toldMoment(position.value, state.value === 'playing'), speed: speed.value }
  })

  function reasonOf(error: unknown): Failure {
    if (error instanceof ApiError && error.status !== 0) {
      const { supportedScales } = (error.details.details ?? {}) as { supportedScales?: number[] }
      return { message: error.message, code: error.code, requestId: error.requestId, supported: supportedScales ?? [] }
    }
    return plain(t('error.network'))
  }

  function plain(message: string): Failure {
    return { message, code: 0, requestId: '', supported: [] }
  }

  async function look(): Promise<void> {
    if (!day.value) day.value = today()
    const mine = ++search
    const device = deviceId()
    found.value = null
    searchProblem.value = null
    if (device === undefined) return
    searching.value = true
    const begin = startOf(day.value)
    try {
      const answer = await call<RecordingsAnswer>('POST', '/api/v1/video/recordings/query', {
        DeviceID: device,
        startTime: wire(begin),
        endTime: wire(begin + DAY_MS),
      })
      if (mine === search) found.value = answer
    } catch (error) {
      if (mine === search) searchProblem.value = reasonOf(error)
    } finally {
      if (mine === search) searching.value = false
    }
  }

  /** Play from a moment to the end of the day: inside what is running it is a jump, else a new session. */
  async function playFrom(at: number): Promise<void> {
    wantedSpeed.value = 1
    if (session.value !== null && isRunning.value) await steer({ action: 'seek', position: wire(at) })
    else await open(at)
  }

  async function open(at: number): Promise<void> {
    const device = deviceId()
    if (device === undefined) return
    const closing = close()
    const mine = ++turn
    asked.value = at
    state.value = 'opening'
    await closing
    if (mine !== turn) return
    try {
      const answer = await call<PlaybackAnswer>('POST', '/api/v1/video/playback/url', {
        DeviceID: device,
        startTime: wire(at),
        endTime: wire(startOf(day.value) + DAY_MS),
        protocol: ['ws-flv', 'http-flv'],
        // Coded anew only where the recording is what this browser cannot play; the answer says so.
        transcode: { video: canPlay('h265') ? 'none' : 'h264', audio: hears.value ? 'aac' : 'none' },
      })
      if (mine !== turn) return stop(answer.sessionId)
      session.value = answer
      const first = answer.segments.map((one) => Date.parse(one.startTime)).sort((a, b) => a - b)[0]
      note({ position: Math.max(at, first ?? at), scale: 1, isPaused: false })
      play(answer)
    } catch (error) {
      if (mine === turn) fail(reasonOf(error))
    }
  }

  function play(answer: PlaybackAnswer): void {
    const url = ['ws-flv', 'http-flv'].map((name) => answer.urls.find((one) => one.protocol === name)?.url).find(Boolean)
    if (!canPlay(answer.codec?.video)) return fail(plain(t('live.noHevc')))
    if (url === undefined || video.value === null) return fail(plain(t('error.network')))
    player = new LivePlayer(video.value, heard)
    const isHeard = answer.codec?.audio === 'aac' || Boolean(answer.transcodedFrom?.audio)
    if (hears.value && !isHeard) notice.value = t('playback.noSound')
    player.open(url, hears.value && isHeard ? 'aac' : '')
    stepper = new FrameStepper(video.value)
  }

  function heard(event: PlayerEvent): void {
    if (event.kind === 'picture') {
      if (state.value === 'opening') begin()
      note({ ...told, position: position.value ?? told.position })
    } else if (event.kind === 'ended') {
      void ended()
    } else if (event.kind === 'unplayable') {
      const words = event.reason === 'network' ? 'live.networkFailed' : 'live.decodeFailed'
      fail(plain(t(words, { reason: event.detail })))
    }
  }

  function begin(): void {
    state.value = 'playing'
    const scale = wantedSpeed.value
    wantedSpeed.value = 1
    if (scale === 1) return
    speed.value = scale
    void steer({ action: 'scale', scale })
  }

  /** The stream is over: the session says why. */
  async function ended(): Promise<void> {
    const over = session.value
    silence()
    state.value = 'ended'
    notice.value = t('playback.ended')
    if (over === null) return
    const view = await call<{ endText: string }>('GET', `/api/v1/video/sessions/${over.sessionId}`).catch(() => null)
    if (view?.endText && session.value === over) notice.value = view.endText
    session.value = null
  }

  /** Whether it was done. */
  async function steer(body: Record<string, unknown>): Promise<boolean> {
    const running = session.value
    if (running === null) return false
    notice.value = ''
    try {
      const now = await call<PlaybackState>('POST', '/api/v1/video/playback/control', { sessionId: running.sessionId, ...body })
      if (session.value !== running) return false
      state.value = now.state === 'paused' ? 'paused' : 'playing'
      speed.value = now.scale
      note({ position: Date.parse(now.positionTime), scale: now.scale, isPaused: now.state === 'paused' })
      if (now.state === 'paused') stepper?.hold()
      else stepper?.release()
      return true
    } catch (error) {
      if (session.value !== running) return false
      const reason = reasonOf(error)
      speed.value = told.scale
      notice.value = reason.code ? `${reason.message}（${reason.code}）` : reason.message
      if (reason.supported.length > 0) speeds.value = reason.supported
      return false
    }
  }

  /** One picture on or back while paused: of what this browser has, else on by the sender; says so when there is no more. */
  async function step(by: 1 | -1): Promise<void> {
    const moved = stepper?.step(by) ?? 0
    if (moved === 0 && by === 1) return fetchFrame()
    notice.value = moved === 0 ? t('playback.noFrame') : ''
    note({ ...told, position: (position.value ?? told.position) + moved * 1000 * told.scale })
  }

  /** Have the sender show its next picture, and show it here once it has come. */
  async function fetchFrame(): Promise<void> {
    if (isFetching) return
    isFetching = true
    try {
      if (!(await steer({ action: 'step' }))) return
      if (!(await stepper?.follow())) notice.value = t('playback.noFrame')
    } finally {
      isFetching = false
    }
  }

  function note(next: { position: number; scale: number; isPaused: boolean }): void {
    told = { position: next.position, scale: next.scale, isPaused: next.isPaused, at: performance.now() }
    position.value = told.position
    window.clearInterval(ticking)
    ticking = window.setInterval(() => {
      position.value = reckoned(told.position, told.scale, told.isPaused, performance.now() - told.at)
    }, TICK_MS)
  }

  function silence(): void {
    player?.close()
    player = null
    stepper?.close()
    stepper = null
    window.clearInterval(ticking)
  }

  function fail(reason: Failure): void {
    silence()
    failure.value = reason
    state.value = 'failed'
    if (session.value !== null) void stop(session.value.sessionId)
    session.value = null
  }

  async function stop(sessionId: string): Promise<void> {
    await call('POST', '/api/v1/video/playback/stop', { sessionId }).catch(() => undefined)
  }

  async function close(): Promise<void> {
    turn += 1
    silence()
    const running = session.value
    session.value = null
    failure.value = null
    notice.value = ''
    state.value = 'idle'
    speed.value = 1
    position.value = null
    if (running !== null) await stop(running.sessionId)
  }

  /** Sound is part of what was asked for: a change is a new session from where this one stands. */
  async function hear(): Promise<void> {
    if (isRunning.value && position.value !== null) await open(position.value)
  }

  function toggle(): void {
    void steer({ action: state.value === 'paused' ? 'resume' : 'pause' })
  }

  function playFirst(): void {
    const first = found.value?.segments[0]
    if (first !== undefined) void playFrom(Math.max(Date.parse(first.startTime), startOf(day.value)))
  }

  function leave(): void {
    if (session.value !== null) void stop(session.value.sessionId)
  }

  watch(
    [deviceId, day],
    async ([now], [before]) => {
      if (now !== before) speeds.value = []
      await close()
      await look()
      if (pending.value === null || now === undefined) return
      const at = pending.value
      pending.value = null
      await open(at)
    },
    { immediate: true },
  )
  window.addEventListener('pagehide', leave)
  onBeforeUnmount(() => {
    window.removeEventListener('pagehide', leave)
    void close()
  })

  return {
    day, found, searching, searchProblem, state, failure, notice, session, speed, speeds, position, place, bar, hours, marker, isRunning,
    hears, codedFrom, codingTrouble, look, playFrom, playFirst, steer, step, toggle, hear, close,
  }
}
