{{/* The release's name, with the chart's where it is another one. */}}
{{- define "kuroshio.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Of all that is made. Short enough for a pod's name, `-255`, to be a host's name. */}}
{{- define "kuroshio.fullname" -}}
{{- $name := include "kuroshio.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "kuroshio.selector" -}}
app.kubernetes.io/name: {{ include "kuroshio.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kuroshio.labels" -}}
{{ include "kuroshio.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "kuroshio.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "kuroshio.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "kuroshio.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}
