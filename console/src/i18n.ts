import { createI18n } from 'vue-i18n'

import en from './locales/en'
import zh from './locales/zh'

export type Locale = 'zh' | 'en'

const KEY = 'tongshi.locale'

function remembered(): Locale {
  try {
    return localStorage.getItem(KEY) === 'en' ? 'en' : 'zh'
  } catch {
    return 'zh'
  }
}

export const i18n = createI18n({ legacy: false, locale: remembered(), fallbackLocale: 'zh', messages: { zh, en } })

/** Switch the console's language and remember it for this browser. */
export function setLocale(locale: Locale): void {
  i18n.global.locale.value = locale
  document.documentElement.lang = locale === 'zh' ? 'zh-CN' : 'en'
  try {
    localStorage.setItem(KEY, locale)
  } catch {
    // Private windows may refuse storage; the choice then lasts for this page.
  }
}
