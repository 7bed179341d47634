// One live picture for a page or a cell of the wall: asked for, played, given back, and why there is none.

import { type Ref, computed, onBeforeUnmount, ref, shallowRef } from 'vue'
import { useI18n } from 'vue-i18n'

import { ApiError, call } from '../api/client'
import type { LiveAnswer } from '../api/types'
import { useCodingTrouble } from './coding'
import { LivePlayer, canPlay, type PlayerEvent } from './player'
import { STEADY_MS, delayMs, mayHelp } from './recovery'
import { steps } from './timing'
import { WhepPlayer, WhepRefused, hasWebrtc } from './whep'

export type LiveState = 'idle' | 'opening' | 'playing' | 'waiting' | 'failed' | 'ended'

export interface Failure {
  message: string
  code: number
  requestId: string
  traceId: string
}

export interface LiveWish {
  deviceId: string
  transport?: 'udp' | 'tcp-passive'
  streamType?: 0 | 1
  /** By WebRTC, and by FLV where that is refused. */
  lowDelay?: boolean
}

/** A picture that stands still for so long is opened anew, where that is wished. */
const STUCK_S = 15
const TICK_MS = 500

/**
 * A live picture in one video element.
 *
 * With ``recovers`` a picture that ended or failed is asked for again, later each time and a bounded number of
 * times, while the reason stays to be read. Leaving the page gives the picture back.
 */
export function useLive(video: Ref<HTMLVideoElement | null>, recovers = false) {
  const { t } = useI18n()
  const state = ref<LiveState>('idle')
  const failure = ref<Failure | null>(null)
  const answer = shallowRef<LiveAnswer | null>(null)
  const answerAfterMs = ref<number | null>(null)
  const pictureAfterMs = ref<number | null>(null)
  const stalledSeconds = ref(0)
  const retryInS = ref(0)
  const whepDelayMs = ref<number | null>(null)
  const byWebrtc = ref(false)
  let player: LivePlayer | WhepPlayer | null = null
  let wish: LiveWish | null = null
  let clickedAt = 0
  let turn = 0
  let failures = 0
  let steadySince = 0
  let waiting = 0

  const timing = computed(() => steps(answer.value?.trace ?? null, answerAfterMs.value, pictureAfterMs.value))
  const codecText = computed(() => {
    const codec = answer.value?.codec
    const from = answer.value?.transcodedFrom
    const note = from ? ` · ${t('live.transcoded', { from: from.video.toUpperCase() })}` : ''
    return codec ? `${codec.video.toUpperCase()} ${codec.width}×${codec.height}${note}` : ''
  })

  const codingTrouble = useCodingTrouble(() =>
    state.value === 'playing' && answer.value?.transcodedFrom ? answer.value.sessionId : null,
  )

  async function open(next: LiveWish): Promise<void> {
    failures = 0
    failure.value = null
    wish = next
    await ask()
  }

  async function ask(): Promise<void> {
    await giveBack()
    if (wish === null) return
    const mine = ++turn
    clickedAt = performance.now()
    state.value = 'opening'
    try {
      const found = await call<LiveAnswer>('POST', '/api/v1/video/live/url', {
        DeviceID: wish.deviceId,
        streamType: wish.streamType ?? 0,
        protocol: wish.lowDelay && hasWebrtc() ? ['webrtc', 'ws-flv', 'http-flv'] : ['ws-flv', 'http-flv'],
        transport: wish.transport ?? 'auto',
        // Coded anew only where the device sends what this browser cannot play; the answer says so.
        transcode: { video: canPlay('h265') ? 'none' : 'h264' },
      })
      if (mine !== turn) return stop(found.sessionId)
      answer.value = found
      answerAfterMs.value = performance.now() - clickedAt
      play(found)
    } catch (error) {
      if (mine !== turn) return
      if (error instanceof ApiError && error.status !== 0) {
        const told = error.details.details as { traceId?: string } | undefined
        fail({ message: error.message, code: error.code, requestId: error.requestId, traceId: told?.traceId ?? '' }, error.status)
      } else fail(plain(t('error.network')))
    }
  }

  function plain(message: string): Failure {
    return { message, code: 0, requestId: answer.value?.sessionId ?? '', traceId: '' }
  }

  function play(found: LiveAnswer): void {
    const whep = found.urls.find((one) => one.protocol === 'webrtc')?.url
    if (whep !== undefined && video.value !== null) void playWebrtc(found, whep, video.value)
    else playFlv(found)
  }

  /** By WebRTC; what it does not carry is played by FLV with the same ticket, which a refusal leaves good. */
  async function playWebrtc(found: LiveAnswer, url: string, element: HTMLVideoElement): Promise<void> {
    const mine = turn
    const whep = new WhepPlayer(element, (event) => {
      if (event.kind === 'picture' || event.kind === 'stalled') whepDelayMs.value = whep.figures.delayMs
      heard(event)
    })
    player = whep
    try {
      await whep.open(url, found.codec?.audio ?? '')
      if (mine === turn) byWebrtc.value = true
    } catch (error) {
      if (mine !== turn) return
      if (error instanceof WhepRefused && error.status === 422) playFlv(found)
      else fail(plain(error instanceof WhepRefused && error.message ? error.message : t('error.network')))
    }
  }

  function playFlv(found: LiveAnswer): void {
    const url = ['ws-flv', 'http-flv'].map((name) => found.urls.find((one) => one.protocol === name)?.url).find(Boolean)
    if (!canPlay(found.codec?.video)) return fail(plain(t('live.noHevc')), 422)
    if (url === undefined || video.value === null) return fail(plain(t('error.network')))
    const flv = new LivePlayer(video.value, heard)
    player = flv
    flv.open(url, found.codec?.audio ?? '')
  }

  function heard(event: PlayerEvent): void {
    if (event.kind === 'picture') {
      pictureAfterMs.value = performance.now() - clickedAt
      state.value = 'playing'
      failure.value = null
      steadySince = performance.now()
    } else if (event.kind === 'stalled') {
      stalledSeconds.value = event.seconds
      if (recovers && event.seconds >= STUCK_S) void over()
    } else if (event.kind === 'ended') {
      void over()
    } else {
      const words = event.reason === 'network' ? 'live.networkFailed' : 'live.decodeFailed'
      fail(plain(t(words, { reason: event.detail })))
    }
  }

  /** The picture stopped: its session says why. */
  async function over(): Promise<void> {
    const mine = turn
    const ended = answer.value
    const stood = stalledSeconds.value
    player?.close()
    player = null
    state.value = 'ended'
    failure.value = plain(stood >= STUCK_S ? t('live.stalled', { n: stood }) : t('live.ended'))
    if (ended !== null) {
      const view = await call<{ endText: string; traceId: string }>('GET', `/api/v1/video/sessions/${ended.sessionId}`).catch(() => null)
      if (mine !== turn) return
      if (view?.endText) failure.value = { ...failure.value, message: view.endText, traceId: view.traceId }
    }
    again()
  }

  function fail(reason: Failure, status = 0): void {
    player?.close()
    player = null
    failure.value = reason
    state.value = 'failed'
    // What cannot be shown must not go on running; its timing stays on the page.
    if (answer.value !== null) void stop(answer.value.sessionId)
    if (mayHelp(status)) again()
  }

  /** Ask once more after a while, if that is wished and not tried too often. */
  function again(): void {
    if (!recovers || wish === null) return
    const wasSteady = steadySince > 0 && performance.now() - steadySince > STEADY_MS
    failures = wasSteady ? 1 : failures + 1
    steadySince = 0
    const delay = delayMs(failures)
    if (delay === null) {
      state.value = 'failed'
      return
    }
    state.value = 'waiting'
    const due = performance.now() + delay
    retryInS.value = Math.ceil(delay / 1000)
    window.clearInterval(waiting)
    waiting = window.setInterval(() => {
      retryInS.value = Math.max(0, Math.ceil((due - performance.now()) / 1000))
      if (performance.now() >= due) void ask()
    }, TICK_MS)
  }

  async function stop(sessionId: string): Promise<void> {
    await call('POST', '/api/v1/video/live/stop', { sessionId }).catch(() => undefined)
  }

  async function giveBack(): Promise<void> {
    turn += 1
    window.clearInterval(waiting)
    player?.close()
    player = null
    const open = answer.value
    answer.value = null
    answerAfterMs.value = null
    pictureAfterMs.value = null
    stalledSeconds.value = 0
    whepDelayMs.value = null
    byWebrtc.value = false
    state.value = 'idle'
    if (open !== null) await stop(open.sessionId)
  }

  async function close(): Promise<void> {
    wish = null
    failure.value = null
    await giveBack()
  }

  function leave(): void {
    if (answer.value !== null) void stop(answer.value.sessionId)
  }

  window.addEventListener('pagehide', leave)
  onBeforeUnmount(() => {
    window.removeEventListener('pagehide', leave)
    void close()
  })

  return { state, failure, answer, timing, codecText, codingTrouble, stalledSeconds, retryInS, whepDelayMs, byWebrtc, open, close }
}
