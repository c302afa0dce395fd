// SPDX-License-Identifier: Apache-2.0

// chart renders the templates of a Helm chart with Go's text/template, which is Helm's own engine, and those of
// Helm's functions that the chart uses. It is for tests: helm is not to be had where they run. Unlike Helm it
// refuses a value that values.yaml does not have, and its toYaml writes JSON, which is YAML too.
//
// Usage: go run chart.go CHART <VALUES.json
// VALUES.json has Values, Release and Chart. Prints all documents.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

func main() {
	var values map[string]any
	all := template.New("chart").Option("missingkey=error")

	all.Funcs(template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var out bytes.Buffer
			err := all.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"nindent": func(columns int, text string) string {
			pad := "\n" + strings.Repeat(" ", columns)
			return pad + strings.ReplaceAll(text, "\n", pad)
		},
		"toYaml": func(value any) (string, error) {
			text, err := json.Marshal(value)
			return string(text), err
		},
		"default": func(other, value any) any {
			if truth, _ := template.IsTrue(value); truth {
				return value
			}
			return other
		},
		"quote": func(value any) string { return fmt.Sprintf("%q", fmt.Sprint(value)) },
		"fail":  func(text string) (string, error) { return "", errors.New(text) },
	})
	if err := json.NewDecoder(os.Stdin).Decode(&values); err != nil {
		panic(err)
	}
	names, _ := filepath.Glob(filepath.Join(os.Args[1], "templates", "*"))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil {
			_, err = all.New(filepath.Base(name)).Parse(string(text))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), "_") {
			continue
		}
		var out bytes.Buffer
		if err := all.ExecuteTemplate(&out, filepath.Base(name), values); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("---\n%s\n", out.String())
	}
}
