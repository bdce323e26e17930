{{/* The configuration as pods read it. */}}
{{- define "kuroshio.config" -}}
{{- include "kuroshio.refuseSecrets" (dict "value" .Values.config "path" "config") }}
{{- $config := deepCopy .Values.config }}
{{- with .Values.region }}{{ $_ := set $config "region" . }}{{ end }}
{{- $_ := set $config "instance" .Values.instance }}
{{- toYaml $config }}
{{- end }}

{{/* Nothing, or the end: for passwords and tokens that are no reference. Names of topics (`rename`) may be called anything. */}}
{{- define "kuroshio.refuseSecrets" -}}
{{- $path := .path }}
{{- if kindIs "map" .value }}
  {{- range $key, $value := .value }}
    {{- $at := printf "%s.%s" $path $key }}
    {{- $secret := or (has $key (list "password" "client_secret" "token")) (and (hasSuffix ".librdkafka" $path) (regexMatch "(?i)(password|secret|\\.pem)" $key)) }}
    {{- if and $secret (not (kindIs "map" $value)) (not (regexMatch "^\\$\\{(env|file):[^}]+\\}$" (toString $value))) }}
      {{- fail (printf "%s must be ${env:NAME} or ${file:/path}: no secret may stand in the values (see `secrets`)" $at) }}
    {{- end }}
    {{- if ne $key "rename" }}{{ include "kuroshio.refuseSecrets" (dict "value" $value "path" $at) }}{{ end }}
  {{- end }}
{{- else if kindIs "slice" .value }}
  {{- range $index, $value := .value }}{{ include "kuroshio.refuseSecrets" (dict "value" $value "path" (printf "%s[%d]" $path $index)) }}{{ end }}
{{- end }}
{{- end }}

{{/* What of the configuration makes pods restart, as a digest: all but what running pods take up. */}}
{{- define "kuroshio.restarts" -}}
{{- $config := include "kuroshio.config" . | fromYaml }}
{{- $taken := list "topics" "groups" "configs" "acls" "throttle" }}
{{- range $key := $taken }}{{ $_ := unset ($config.defaults | default dict) $key }}{{ end }}
{{- range $flow := $config.flows }}{{ range $key := $taken }}{{ $_ := unset $flow $key }}{{ end }}{{ end }}
{{- $format := dig "log" "format" "json" $config }}
{{- $_ := unset $config "log" }}
{{- if ne $format "json" }}{{ $_ := set $config "log" (dict "format" $format) }}{{ end }}
{{- toJson $config | sha256sum }}
{{- end }}

{{/* The flows that run here, as { flows: [{ name, source }] }. */}}
{{- define "kuroshio.flows" -}}
{{- $region := .Values.region | default .Values.config.region }}
{{- $flows := list }}
{{- range .Values.config.flows }}
  {{- if or (not $region) (eq .target $region) }}
    {{- $flows = append $flows (dict "name" (.name | default (printf "%s-%s" .source .target)) "source" .source) }}
  {{- end }}
{{- end }}
{{- if not $flows }}{{ fail (printf "region: no flow of config.flows has the target %s" $region) }}{{ end }}
{{- dict "flows" $flows | toJson }}
{{- end }}

{{/* Where the HTTP server listens: the port. */}}
{{- define "kuroshio.port" -}}
{{- $listen := (.Values.config.http | default dict).listen | default "0.0.0.0:8080" }}
{{- $port := regexFind "[0-9]+$" $listen }}
{{- if not (regexMatch ":[0-9]+$" $listen) }}{{ fail "config.http.listen must be written out: the chart needs its port" }}{{ end }}
{{- $port }}
{{- end }}

{{- define "kuroshio.scheme" -}}
{{- ternary "https" "http" (not (empty (.Values.config.http | default dict).tls)) }}
{{- end }}

{{/* A duration (`30s`, `1m 30s`) in seconds, rounded up. */}}
{{- define "kuroshio.seconds" -}}
{{- $text := nospace (toString .value) }}
{{- $ms := 0 }}
{{- range regexFindAll "[0-9]+[a-zA-Z]+" $text -1 }}
  {{- $unit := regexFind "[a-zA-Z]+" . }}
  {{- $factor := get (dict "ms" 1 "msec" 1 "s" 1000 "sec" 1000 "secs" 1000 "second" 1000 "seconds" 1000 "m" 60000 "min" 60000 "mins" 60000 "minute" 60000 "minutes" 60000 "h" 3600000 "hr" 3600000 "hrs" 3600000 "hour" 3600000 "hours" 3600000) $unit }}
  {{- if not $factor }}{{ fail (printf "%s: the chart cannot reckon with `%s`; write such as 30s or 5m" $.path $text) }}{{ end }}
  {{- $ms = add $ms (mul (regexFind "[0-9]+" . | int64) $factor) }}
{{- end }}
{{- if not (regexMatch "^([0-9]+[a-zA-Z]+)+$" $text) }}{{ fail (printf "%s: the chart cannot reckon with `%s`; write such as 30s, or set terminationGracePeriodSeconds" .path $text) }}{{ end }}
{{- div (add $ms 999) 1000 }}
{{- end }}

{{/* A size (`128MiB`) in KiB, rounded up. */}}
{{- define "kuroshio.kib" -}}
{{- $text := ternary (.value | int64 | toString) (nospace (toString .value)) (kindIs "float64" .value) }}
{{- $factor := get (dict "" 1 "B" 1 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 "TiB" 1099511627776) (regexFind "[A-Za-z]*$" $text) }}
{{- if not (and $factor (regexMatch "^[0-9]+[A-Za-z]*$" $text)) }}{{ fail (printf "%s: the chart cannot reckon with `%s`; write such as 128MiB, or set resources.limits.memory" .path $text) }}{{ end }}
{{- div (add (mul (regexFind "^[0-9]+" $text | int64) $factor) 1023) 1024 }}
{{- end }}

{{/* What a pod needs at most (docs/capacity.md): 2 x memory + 96 MiB + 64 KiB for each partition + 8 x the largest record, in steps of 32 MiB.
     `memory` of a flow is its own part. */}}
{{- define "kuroshio.memory" -}}
{{- $memory := include "kuroshio.kib" (dict "value" ((.Values.config.defaults | default dict).memory | default "128MiB") "path" "config.defaults.memory") | int64 }}
{{- range $index, $flow := .Values.config.flows }}
  {{- with $flow.memory }}{{ $memory = add $memory (include "kuroshio.kib" (dict "value" . "path" (printf "config.flows[%d].memory" $index)) | int64) }}{{ end }}
{{- end }}
{{- $record := include "kuroshio.kib" (dict "value" .Values.sizing.largestRecord "path" "sizing.largestRecord") | int64 }}
{{- $kib := add (mul 2 $memory) (mul 96 1024) (mul 64 (.Values.sizing.partitionsPerPod | int64)) (mul 8 $record) }}
{{- mul 32 (div (add $kib 32767) 32768) }}Mi
{{- end }}

{{/* The ports of a cluster's bootstrap servers, as texts in a JSON list. */}}
{{- define "kuroshio.brokerPorts" -}}
{{- $ports := list }}
{{- range splitList "," .cluster.bootstrap_servers }}
  {{- $port := regexFind ":[0-9]+$" (trim .) }}
  {{- if not $port }}{{ fail (printf "config.clusters.%s.bootstrap_servers must be written out: the chart needs it" $.alias) }}{{ end }}
  {{- $ports = append $ports (trimPrefix ":" $port) }}
{{- end }}
{{- toJson $ports }}
{{- end }}

{{/* The port of a URL. */}}
{{- define "kuroshio.urlPort" -}}
{{- if not (regexMatch "^https?://" .) }}{{ fail "networkPolicy: the URLs of token_url and otlp.endpoint must be written out: the chart needs their ports" }}{{ end }}
{{- regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https:" .)) }}
{{- end }}
