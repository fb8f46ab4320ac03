# Completion of coxctl for PowerShell. Load it with: coxctl completion powershell | Out-String | Invoke-Expression

Register-ArgumentCompleter -Native -CommandName 'coxctl' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.StartOffset -lt $cursorPosition } | ForEach-Object {
        $text = $_.Extent.Text
        if ($_.Extent.EndOffset -gt $cursorPosition) { $text = $text.Substring(0, $cursorPosition - $_.Extent.StartOffset) }
        $text.Trim('"', "'")
    })
    $program = $words[0]
    $asked = @($words | Select-Object -Skip 1)
    if ($wordToComplete -eq '') {
        # Before 7.3 an empty argument was lost on its way to a program.
        $asked += if ($PSVersionTable.PSVersion -lt [version]'7.3') { '""' } else { '' }
    }
    $lines = @(& $program __complete @asked 2>$null)
    if ($lines.Count -eq 0 -or $lines[-1] -notmatch '^:(\d+)$') { return }
    $directive = [int]$Matches[1]
    $candidates = @($lines | Select-Object -SkipLast 1)
    if ($directive -band 1) { return }

    # A value's candidates are for what follows the = of its flag.
    $lead = if ($wordToComplete -match '^-[^=]*=') { $Matches[0] } else { '' }
    $rest = $wordToComplete.Substring($lead.Length)
    $isFile = $directive -band 8
    $isDirectory = $directive -band 16
    if ($isFile -or $isDirectory -or ($candidates.Count -eq 0 -and -not ($directive -band 4))) {
        $endings = @($candidates | ForEach-Object { ".$_" })
        Get-ChildItem -Path "$rest*" -ErrorAction SilentlyContinue | Where-Object {
            $_.PSIsContainer -or (-not $isDirectory -and (-not $isFile -or $endings -contains $_.Extension))
        } | ForEach-Object {
            $parent = Split-Path -Path $rest -Parent
            if ($rest -match '[\\/]$') { $parent = $rest }
            $path = if ($parent) { Join-Path $parent $_.Name } else { $_.Name }
            [System.Management.Automation.CompletionResult]::new("$lead$path", $_.Name, 'ProviderItem', $path)
        }
        return
    }
    if (-not ($directive -band 32)) { $candidates = @($candidates | Sort-Object) }
    $space = if ($directive -band 2 -or $candidates.Count -ne 1) { '' } else { ' ' }
    foreach ($candidate in $candidates) {
        $value, $about = $candidate -split "`t", 2
        if (-not $about) { $about = $value }
        [System.Management.Automation.CompletionResult]::new("$lead$value$space", $value, 'ParameterValue', $about)
    }
}
