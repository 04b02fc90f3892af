{{- define "crisper.name" -}}
{{- if contains "crisper" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-crisper" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "crisper.selector" -}}
app.kubernetes.io/name: crisper
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "crisper.labels" -}}
{{ include "crisper.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "crisper.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "crisper.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}{{ else if .Values.serviceAccount.create }}{{ include "crisper.name" . }}{{ else }}default{{ end }}
{{- end }}

{{/* CRISPER_ROLES of each Deployment: the pull role also serves the token endpoint. */}}
{{- define "crisper.roles" -}}
{{- if eq . "pull" }}pull,token{{ else }}{{ . }}{{ end }}
{{- end }}
