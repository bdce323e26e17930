{{/* What pods of the restricted Pod Security Standard say of themselves. */}}
{{- define "kuroshio.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# Secrets and tokens that are mounted are read by it.
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "kuroshio.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "kuroshio.env" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{- range .Values.secrets.env }}
- name: {{ .name }}
  valueFrom: { secretKeyRef: { name: {{ .secret }}, key: {{ .key }} } }
{{- end }}
{{- range .Values.env }}
{{- if and (regexMatch "(?i)(PASSWORD|SECRET|TOKEN|KEY|HEADERS)$" .name) (not .valueFrom) }}
{{- fail (printf "env: %s must come by valueFrom: no secret may stand in the values" .name) }}
{{- end }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}

{{- define "kuroshio.mounts" -}}
# The folder, not the file: a mounted file never changes.
- { name: config, mountPath: /etc/kuroshio, readOnly: true }
{{- range $index, $files := .Values.secrets.files }}
- { name: secret-{{ $index }}, mountPath: {{ $files.path }}, readOnly: true }
{{- end }}
{{- range $index, $files := .Values.secrets.csi }}
- { name: csi-{{ $index }}, mountPath: {{ $files.path }}, readOnly: true }
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kuroshio.volumes" -}}
- name: config
  configMap: { name: {{ include "kuroshio.fullname" . }} }
{{- range $index, $files := .Values.secrets.files }}
- name: secret-{{ $index }}
  secret: { secretName: {{ $files.secret }}, defaultMode: 0440 }
{{- end }}
{{- range $index, $files := .Values.secrets.csi }}
- name: csi-{{ $index }}
  csi:
    driver: secrets-store.csi.k8s.io
    readOnly: true
    volumeAttributes: { secretProviderClass: {{ $files.secretProviderClass }} }
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
