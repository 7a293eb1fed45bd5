{{/* kube-rbac-proxy beside the daemon, whose metrics only this node's own processes reach: it asks for a token. */}}
{{- define "podrail.metricsProxy" }}
{{- if .Values.podMonitor.enabled }}
        - name: metrics
          image: {{ required "podMonitor.proxyImage must name an image of kube-rbac-proxy" .Values.podMonitor.proxyImage | quote }}
          args:
            - --secure-listen-address=:{{ .Values.podMonitor.port }}
            - --upstream=http://127.0.0.1:{{ .Values.metricsPort }}/
            - --allow-paths=/metrics
          ports:
            - {name: metrics, containerPort: {{ .Values.podMonitor.port }}}
          securityContext:
            runAsUser: 65534
            runAsGroup: 65534
            runAsNonRoot: true
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL]}
            readOnlyRootFilesystem: true
          resources:
            requests: {cpu: 10m, memory: 32Mi}
{{- end }}
{{- end }}
