// Sound with one device: listen, talk while a button is held, broadcast; and why it does not work.

import { computed, onBeforeUnmount, ref, shallowRef } from 'vue'
import { useI18n } from 'vue-i18n'

import { ApiError, call } from '../api/client'
import type { AudioAnswer } from '../api/types'
import { Earphone } from './earphone'
import { Microphone, NoMicrophone } from './microphone'
import type { Spoken } from './microphone.worklet'

export type VoiceMode = 'listen' | 'talk' | 'broadcast'
export type VoiceStage = 'idle' | 'opening' | 'open'

export interface VoiceProblem {
  message: string
  code: number
  requestId: string
}

/** A talk in which nobody pressed the button for so long ends, so that others may speak. */
const IDLE_S = 15
/** What the platform does not take in time is not spoken later: two seconds of G.711. */
const MOST_WAITING_BYTES = 16_000
const TICK_MS = 500

export function useVoice(deviceId: () => string) {
  const { t } = useI18n()
  const mode = ref<VoiceMode | null>(null)
  const stage = ref<VoiceStage>('idle')
  const problem = ref<VoiceProblem | null>(null)
  const answer = shallowRef<AudioAnswer | null>(null)
  const isSpeaking = ref(false)
  const spokenLevel = ref(0)
  const heardLevel = ref(0)
  const quietForS = ref(0)
  let microphone: Microphone | null = null
  let earphone: Earphone | null = null
  let socket: WebSocket | null = null
  let turn = 0
  let ticking = 0
  let spokeAt = 0

  const endsInS = computed(() => Math.max(0, IDLE_S - quietForS.value))

  /** Begin; a session of another kind ends first. */
  async function begin(wanted: VoiceMode): Promise<void> {
    await end()
    const mine = ++turn
    mode.value = wanted
    stage.value = 'opening'
    problem.value = null
    try {
      // The microphone first: a person who ponders over the browser's question must not hold the device.
      if (wanted !== 'listen') {
        const opened = await Microphone.open(speak, () => fail(t('voice.troubles.busy')))
        if (mine !== turn) return opened.close()
        microphone = opened
      }
      const found = await call<AudioAnswer>('POST', '/api/v1/video/audio/start', {
        DeviceID: deviceId(),
        mode: wanted,
        codec: wanted === 'listen' ? '' : 'g711a', // as the device sends it
      })
      if (mine !== turn) return stop(found.sessionId)
      answer.value = found
      if (found.url) listen(found.url, found.heard?.codec ?? '')
      if (found.uplinkUrl) connect(found.uplinkUrl)
      else stage.value = 'open'
    } catch (error) {
      if (mine === turn) refuse(error)
    }
  }

  function listen(url: string, codec: string): void {
    earphone = new Earphone({
      onHeard: (loud) => (heardLevel.value = loud),
      onEnded: (error) => fail(error ? t('voice.lost', { reason: error }) : t('voice.ended')),
    })
    earphone.isQuiet = isSpeaking.value
    earphone.open(url, codec)
  }

  function connect(url: string): void {
    const opened = new WebSocket(url)
    socket = opened
    opened.binaryType = 'arraybuffer'
    opened.onopen = () => {
      stage.value = 'open'
      spokeAt = performance.now()
      isSpeaking.value ||= mode.value === 'broadcast'
      ticking = window.setInterval(tick, TICK_MS)
    }
    // The platform closes when the device hung up, a right was taken back or the time was over.
    opened.onclose = () => {
      if (socket === opened) fail(stage.value === 'open' ? t('voice.ended') : t('voice.noUplink'))
    }
  }

  function speak({ coded, loudness }: Spoken): void {
    spokenLevel.value = isSpeaking.value ? loudness : 0
    if (!isSpeaking.value || socket?.readyState !== WebSocket.OPEN) return
    spokeAt = performance.now()
    if (socket.bufferedAmount < MOST_WAITING_BYTES) socket.send(coded)
  }

  function tick(): void {
    quietForS.value = Math.floor((performance.now() - spokeAt) / 1000)
    if (mode.value === 'talk' && quietForS.value >= IDLE_S) void end()
  }

  /** The button goes down: speak, once there is a line. */
  function press(): void {
    if (mode.value !== 'talk') void begin('talk')
    isSpeaking.value = true
    if (earphone) earphone.isQuiet = true
  }

  /** The button goes up: listen to the reply. */
  function release(): void {
    if (mode.value === 'broadcast') return
    isSpeaking.value = false
    if (earphone) earphone.isQuiet = false
  }

  function refuse(error: unknown): void {
    if (error instanceof NoMicrophone) return fail(t(`voice.troubles.${error.trouble}`))
    if (!(error instanceof ApiError) || error.status === 0) return fail(t('error.network'))
    const { holder } = (error.details.details ?? error.details) as { holder?: string }
    fail(holder ? t('voice.heldBy', { who: holder }) : error.message, error.code, error.requestId)
  }

  function fail(message: string, code = 0, requestId = ''): void {
    void end()
    problem.value = { message, code, requestId }
  }

  async function stop(sessionId: string): Promise<void> {
    await call('POST', '/api/v1/video/audio/stop', { sessionId }).catch(() => undefined)
  }

  async function end(): Promise<void> {
    turn += 1
    window.clearInterval(ticking)
    const [line, open] = [socket, answer.value]
    socket = null
    answer.value = null
    mode.value = null
    stage.value = 'idle'
    isSpeaking.value = false
    spokenLevel.value = heardLevel.value = quietForS.value = 0
    microphone?.close()
    microphone = null
    earphone?.close()
    earphone = null
    line?.close()
    if (open !== null) await stop(open.sessionId)
  }

  function leave(): void {
    if (stage.value !== 'idle') void end()
  }

  window.addEventListener('pagehide', leave)
  onBeforeUnmount(() => {
    window.removeEventListener('pagehide', leave)
    void end()
  })

  return { mode, stage, problem, isSpeaking, spokenLevel, heardLevel, endsInS, begin, press, release, end }
}
