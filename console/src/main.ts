import {
  ElAlert,
  ElButton,
  ElInput,
  ElLoading,
  ElOption,
  ElPagination,
  ElRadioButton,
  ElRadioGroup,
  ElSelect,
  ElSlider,
  ElTable,
  ElTableColumn,
  ElTag,
} from 'element-plus'
import 'element-plus/dist/index.css'
import { createApp } from 'vue'

import App from './App.vue'
import { i18n } from './i18n'
import { router } from './router'
import './style.css'

const app = createApp(App).use(i18n).use(router)
// Only what the pages use: the whole kit would double what an operator's browser loads.
for (const part of [
  ElAlert, ElButton, ElInput, ElLoading, ElOption, ElPagination, ElRadioButton, ElRadioGroup, ElSelect, ElSlider,
  ElTable, ElTableColumn, ElTag,
]) {
  app.use(part)
}
app.mount('#app')
